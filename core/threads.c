/* threads.c - see threads.h. */
#include "threads.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>

struct trial {
    int wanted, made, why;
};

/* Each thread starts the next and waits for its end, so that in the end all of them were there at once; nobody has to
 * keep a list of them. */
static void *start_next(void *arg)
{
    struct trial *t = arg;
    pthread_t next;
    if (t->made == t->wanted) return NULL;
    t->made++;
    t->why = pthread_create(&next, NULL, start_next, t);
    if (t->why)
        t->made--;
    else
        pthread_join(next, NULL);
    return NULL;
}

qn_status qn__threads_start(int n, qn_error *err)
{
    struct trial t = { .wanted = n - 1 };
    sigset_t all, old;
    int came = 0;
    if (n <= 1) return QN_OK;
    sigfillset(&all); /* signals belong to the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    start_next(&t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (t.made < t.wanted)
        return qn__fail(err, 7001, QN_AT_FIELD("cpu"),
                        "%d of %d threads: %s; expected all; use fewer threads, or raise the limit on processes "
                        "(ulimit -u)",
                        t.made + 1, n, t.why == EAGAIN ? "no more can be started" : "cannot be created");
#pragma omp parallel num_threads(n) reduction(+ : came)
    came++;
    (void)came; /* not looked at: who sets OMP_THREAD_LIMIT gets fewer, and wants it so */
    return QN_OK;
}
