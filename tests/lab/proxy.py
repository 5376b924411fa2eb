"""A proxy for HTTP without TLS: proxy.py ADDRESS PORT. Prints a line for each request: its client, its method and the whole
URL. All that stands for the world outside is at ADDRESS too, and no name is looked up."""
import http.client
import http.server
import shutil
import sys
import urllib.parse

# What belongs to one connection, and what this proxy says anew.
OWN = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "server", "date"}


class Request(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.scheme != "http":
            self.send_error(400, "not a request to a proxy")
            return
        asked = {name: value for name, value in self.headers.items() if name.lower() not in OWN}
        there = http.client.HTTPConnection(self.server.server_address[0], url.port or 80, timeout=30)
        try:
            there.request("GET", urllib.parse.urlunsplit(("", "", url.path or "/", url.query, "")), headers=asked)
            answer = there.getresponse()
            self.send_response(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in OWN:
                    self.send_header(name, value)
            if answer.length is None:
                self.close_connection = True
                self.send_header("Connection", "close")
            self.end_headers()
            shutil.copyfileobj(answer, self.wfile)
        except OSError as error:
            self.close_connection = True
            print("failed %s: %s" % (self.path, error), flush=True)
        finally:
            there.close()

    def log_request(self, code="-", size="-"):
        print(self.client_address[0], self.command, self.path, code, flush=True)


if __name__ == "__main__":
    http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Request).serve_forever()
