// Makes a disk slower than it is: every fdatasync of a program that this is loaded into (LD_PRELOAD) takes
// SLOW_DISK_US microseconds longer.
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int fdatasync(int fd) {
    const char *text = getenv("SLOW_DISK_US");
    long us = text ? atol(text) : 0;
    struct timespec longer = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    long done = syscall(SYS_fdatasync, fd);
    // A signal ends it early, which is no harm.
    nanosleep(&longer, NULL);
    return (int)done;
}
