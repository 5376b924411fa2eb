"""A TCP proxy in front of one port that delivers everything later, each way, as a long line does: bandwidth stays.

  delay.py ADDRESS:PORT TO-ADDRESS:PORT MILLISECONDS     prints a line when it listens

A kernel without sch_netem, such as that of many build machines, cannot do it by itself.
"""
import asyncio
import sys


def endpoint(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


async def carry(reader, writer, delay):
    """What is read is written that much later, and so is its end; reading goes on meanwhile."""
    loop = asyncio.get_running_loop()
    queue = asyncio.Queue()

    async def deliver():
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0, due - loop.time()))
            if not data:
                break
            writer.write(data)
            await writer.drain()
        writer.close()

    delivery = asyncio.ensure_future(deliver())
    try:
        while data := await reader.read(65536):
            queue.put_nowait((loop.time() + delay, data))
    except ConnectionError:
        pass
    queue.put_nowait((loop.time() + delay, b""))
    await asyncio.gather(delivery, return_exceptions=True)


async def main():
    listen, to, delay = endpoint(sys.argv[1]), endpoint(sys.argv[2]), int(sys.argv[3]) / 1000

    async def serve(reader, writer):
        # The handshake of TCP takes a way there and back, too.
        await asyncio.sleep(2 * delay)
        try:
            far_reader, far_writer = await asyncio.open_connection(*to)
        except OSError:
            writer.close()
            return
        await asyncio.gather(carry(reader, far_writer, delay), carry(far_reader, writer, delay))

    server = await asyncio.start_server(serve, *listen)
    print("listening", flush=True)
    async with server:
        await server.serve_forever()


asyncio.run(main())
