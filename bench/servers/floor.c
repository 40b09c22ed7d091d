/* The floor: one send(2) per delivery, and nothing else. */

#include <sys/socket.h>

/* Send a finished frame to each socket; say how many took all of it. */
int send_to_all(const int *sockets, int count, const char *frame, int size)
{
    int taken = 0;
    for (int i = 0; i < count; i++)
        taken += send(sockets[i], frame, size, MSG_DONTWAIT | MSG_NOSIGNAL) == size;
    return taken;
}
