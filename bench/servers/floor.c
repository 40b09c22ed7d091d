/* The floor: one send(2) per delivery. */

#include <sys/socket.h>

/* Send a frame to each socket; return how many accepted all of it. */
int send_to_all(const int *sockets, int count, const char *frame, int size)
{
    int complete = 0;
    for (int i = 0; i < count; i++)
        complete += send(sockets[i], frame, size, MSG_DONTWAIT | MSG_NOSIGNAL) == size;
    return complete;
}
