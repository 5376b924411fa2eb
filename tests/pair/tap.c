/* What QEMU does for a network interface of libvirt's type "direct": copies frames between the macvtap of the host and the
 * tap that is the guest's card. A macvlan that is moved into a guest's namespace is not the same: its receive filter
 * follows the guest, that of a macvtap does not.
 *
 *   tap DEVICE NAMESPACE CARD       in the host's namespace; NAMESPACE is the guest's, as a file
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int attach(const char *device, const char *name)
{
    struct ifreq request;
    int fd = open(device, O_RDWR | O_NONBLOCK);

    if (fd < 0)
        return -1;
    memset(&request, 0, sizeof request);
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    return ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETOFFLOAD, 0) < 0 ? -1 : fd;
}

int main(int argc, char **argv)
{
    static char frame[65536];
    struct pollfd ends[2];
    int namespace, n, side;

    if (argc != 4)
        return 2;
    ends[0].fd = attach(argv[1], "");
    namespace = open(argv[2], O_RDONLY);
    if (ends[0].fd < 0 || namespace < 0 || setns(namespace, CLONE_NEWNET) < 0)
        return perror("tap: host"), 1;
    ends[1].fd = attach("/dev/net/tun", argv[3]);
    if (ends[1].fd < 0)
        return perror("tap: guest"), 1;
    ends[0].events = ends[1].events = POLLIN;
    puts("ready");
    fflush(stdout);
    while (poll(ends, 2, -1) > 0)
        for (side = 0; side < 2; side++)
            while (ends[side].revents && (n = read(ends[side].fd, frame, sizeof frame)) > 0)
                if (write(ends[!side].fd, frame, n) < 0)
                    continue; /* the queue is full: a card drops, too */
    return 0;
}
