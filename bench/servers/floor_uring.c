/* The floor with io_uring: one system call per broadcast. */

#include <linux/io_uring.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENTRIES 4096

static int ring = -1;
static struct io_uring_params made;
static char *queues;
static struct io_uring_sqe *entries;

static unsigned *in_queues(unsigned offset)
{
    return (unsigned *)(queues + offset);
}

/* Set the ring up; return whether the kernel permits it. Later calls do nothing. */
int prepare(void)
{
    if (entries)
        return 1;
    ring = syscall(SYS_io_uring_setup, ENTRIES, &made);
    if (ring < 0 || !(made.features & IORING_FEAT_SINGLE_MMAP))
        return 0;
    size_t submissions = made.sq_off.array + made.sq_entries * sizeof(unsigned);
    size_t completions = made.cq_off.cqes + made.cq_entries * sizeof(struct io_uring_cqe);
    size_t size = submissions > completions ? submissions : completions;
    int access = PROT_READ | PROT_WRITE;
    queues = mmap(0, size, access, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
    void *mapped = mmap(0, ENTRIES * sizeof(struct io_uring_sqe), access,
                        MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
    if (queues == MAP_FAILED || mapped == MAP_FAILED)
        return 0;
    for (unsigned i = 0; i < ENTRIES; i++)
        in_queues(made.sq_off.array)[i] = i;
    entries = mapped;
    return 1;
}

/* Take all completions; return how many have sent the whole frame. */
static int complete(int size)
{
    unsigned *head = in_queues(made.cq_off.head);
    unsigned tail = atomic_load_explicit((_Atomic unsigned *)in_queues(made.cq_off.tail),
                                         memory_order_acquire);
    struct io_uring_cqe *found = (struct io_uring_cqe *)(queues + made.cq_off.cqes);
    int sent = 0;
    for (unsigned at = *head; at != tail; at++)
        sent += found[at & (made.cq_entries - 1)].res == size;
    atomic_store_explicit((_Atomic unsigned *)head, tail, memory_order_release);
    return sent;
}

/* Send a frame to each socket; return how many accepted all of it, or -1 if the kernel refuses. */
int send_to_all(const int *sockets, int count, const char *frame, int size)
{
    if (!prepare())
        return -1;
    int sent = 0;
    for (int first = 0; first < count; first += ENTRIES) {
        int some = count - first < ENTRIES ? count - first : ENTRIES;
        unsigned *tail = in_queues(made.sq_off.tail);
        for (int i = 0; i < some; i++) {
            struct io_uring_sqe *entry = &entries[(*tail + i) & (ENTRIES - 1)];
            memset(entry, 0, sizeof *entry);
            entry->opcode = IORING_OP_SEND;
            entry->fd = sockets[first + i];
            entry->addr = (unsigned long)frame;
            entry->len = size;
            entry->msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL;
        }
        atomic_store_explicit((_Atomic unsigned *)tail, *tail + some, memory_order_release);
        if (syscall(SYS_io_uring_enter, ring, some, some, IORING_ENTER_GETEVENTS, 0, 0) != some)
            return -1;
        sent += complete(size);
    }
    return sent;
}
