/* Preloaded into a node: makes the ledger's disk slow or broken, at the moment that a test chooses.
 *
 * Only calls on files in whose path DISK_FILE stands are touched.
 *   DISK_GATE=DIR       while DIR/closed exists, a sync first writes a byte into the fifo DIR/entered,
 *                       then waits until a byte can be read from the fifo DIR/opened.
 *   DISK_FAULT=PATH     once PATH exists, the calls named there fail: "sync 5" (errno) or "write 28".
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_chosen(int fd)
{
    const char *file = getenv("DISK_FILE");
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0 || !file)
        return 0;
    path[size] = 0;
    return strstr(path, file) != NULL;
}

static int chosen_fault(const char *call)
{
    const char *path = getenv("DISK_FAULT");
    FILE *file = path ? fopen(path, "re") : NULL;
    char name[16] = "";
    int number = 0;
    if (!file)
        return 0;
    int fields = fscanf(file, "%15s %d", name, &number);
    fclose(file);
    return fields == 2 && strcmp(name, call) == 0 ? number : 0;
}

static void transfer_byte(const char *directory, const char *name, int flags)
{
    char path[PATH_MAX], byte = '.';
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0 || (flags == O_WRONLY ? write(fd, &byte, 1) : read(fd, &byte, 1)) != 1)
        abort();
    close(fd);
}

static void pass_gate(void)
{
    const char *directory = getenv("DISK_GATE");
    char path[PATH_MAX];
    if (!directory)
        return;
    snprintf(path, sizeof path, "%s/closed", directory);
    if (access(path, F_OK) != 0)
        return;
    transfer_byte(directory, "entered", O_WRONLY);
    transfer_byte(directory, "opened", O_RDONLY);
}

static int sync_fault(int fd)
{
    if (!is_chosen(fd))
        return 0;
    pass_gate();
    return chosen_fault("sync");
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fdatasync(int fd)
{
    int fault = sync_fault(fd);
    if (fault) {
        errno = fault;
        return -1;
    }
    return NEXT(fdatasync)(fd);
}

int fsync(int fd)
{
    int fault = sync_fault(fd);
    if (fault) {
        errno = fault;
        return -1;
    }
    return NEXT(fsync)(fd);
}

int msync(void *address, size_t size, int flags)
{
    if (flags & MS_SYNC)
        pass_gate();
    return NEXT(msync)(address, size, flags);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    int fault = is_chosen(fd) ? chosen_fault("write") : 0;
    if (fault) {
        errno = fault;
        return -1;
    }
    return NEXT(pwrite)(fd, data, size, offset);
}

/* What programs made for large files call instead; here the two are one. */
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    return pwrite(fd, data, size, offset);
}

ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t offset)
{
    int fault = is_chosen(fd) ? chosen_fault("write") : 0;
    if (fault) {
        errno = fault;
        return -1;
    }
    return NEXT(pwritev)(fd, pieces, count, offset);
}
