/* Preloaded into a node: gives it another time of day, so that a test need not wait for hours to pass.
 *
 *   CLOCK_FROM_MS=T CLOCK_SPEED=F   from T (milliseconds since 1970) on, time runs F times as fast;
 *   CLOCK_SHIFT_MS=N                and it is N milliseconds later, or earlier where N is negative.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static long long number(const char *name, long long otherwise)
{
    const char *text = getenv(name);
    return text ? atoll(text) : otherwise;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*next)(clockid_t, struct timespec *);
    if (!next)
        next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int status = next(clock, now);
    if (status || clock != CLOCK_REALTIME)
        return status;
    long long ns = now->tv_sec * 1000000000LL + now->tv_nsec;
    long long from_ns = number("CLOCK_FROM_MS", 0) * 1000000LL;
    ns = from_ns + (ns - from_ns) * (from_ns ? number("CLOCK_SPEED", 1) : 1) + number("CLOCK_SHIFT_MS", 0) * 1000000LL;
    now->tv_sec = ns / 1000000000LL;
    now->tv_nsec = ns % 1000000000LL;
    return 0;
}
