/* loader.c - threads that make batches ahead of their use.
 *
 * Batches are numbered by tickets in the order in which they will be handed out. A thread takes the
 * next ticket, fills slot ticket % depth, and marks it ready; the consumer takes slots in ticket
 * order. Which thread made a batch can therefore not be seen in it. All fields of `struct shared`
 * below `mutex` belong to it.
 *
 * A thread that never comes back (a file system that hangs) must not take the consumer with it:
 * waiting has a time limit, and closing lets such a thread go instead of joining it. So what
 * threads touch is counted and freed by the last one out. */
#include "loader.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_THREADS = 256, MAX_DEPTH = 1024, MAX_BATCH = 1 << 24, STACK = 1 << 20 };

struct worker {
    struct shared *s;
    int index;
};

struct shared {
    int refs; /* atomic */
    struct qn__plan plan;
    int depth, threads;
    struct qn__slot *slot;   /* [depth]            */
    struct qn__bench *bench; /* [max(threads, 1)]  */
    pthread_mutex_t mutex;
    pthread_cond_t work, ready;
    bool stop, paused;
    int busy;
    int64_t head, tail;   /* next ticket to make; oldest one not given back */
    qn_loader_state next; /* where ticket `head` is */
    struct worker worker[MAX_THREADS];
};

struct qn_loader {
    struct shared *s;
    pthread_t thread[MAX_THREADS];
    int started;
    pid_t process; /* that started them */
    double timeout;
    bool holding, stalled;
    qn_loader_state at;
    qn_batch batch;
};

/* ---- memory ------------------------------------------------------------------------------- */

static void free_slot(const struct qn__plan *p, struct qn__slot *s)
{
    size_t b = (size_t)p->batch;
    qn__free(NULL, s->x, b * (size_t)p->size * sizeof *s->x);
    qn__free(NULL, s->label, b * sizeof *s->label);
    qn__free(NULL, s->target, b * (size_t)p->target_size * sizeof *s->target);
    qn__free(NULL, s->sample, b * sizeof *s->sample);
    qn__free(NULL, s->bad, b * sizeof *s->bad);
}

static void free_bench(const struct qn__plan *p, struct qn__bench *b)
{
    size_t n = (size_t)p->batch;
    qn__free(NULL, b->bytes, (size_t)p->size);
    qn__free(NULL, b->plane, (size_t)p->size * sizeof *b->plane);
    qn__free(NULL, b->x, n * (size_t)p->size * sizeof *b->x);
    qn__free(NULL, b->target, n * (size_t)p->target_size * sizeof *b->target);
}

static void drop(struct shared *s)
{
    if (__atomic_fetch_sub(&s->refs, 1, __ATOMIC_ACQ_REL) > 1) return;
    int benches = s->threads ? s->threads : 1;
    for (int i = 0; s->slot && i < s->depth; i++) free_slot(&s->plan, &s->slot[i]);
    for (int i = 0; s->bench && i < benches; i++) free_bench(&s->plan, &s->bench[i]);
    qn__free(NULL, s->slot, (size_t)s->depth * sizeof *s->slot);
    qn__free(NULL, s->bench, (size_t)benches * sizeof *s->bench);
    qn__free(NULL, s->plan.over, (size_t)s->plan.n * sizeof *s->plan.over);
    qn_dataset_free(s->plan.ds);
    pthread_cond_destroy(&s->ready);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->mutex);
    qn__free(NULL, s, sizeof *s);
}

/* calloc of a * b * size, all of which are non-negative. */
static void *take(int64_t a, int64_t b, size_t size)
{
    size_t n;
    return qn__mul(&n, (size_t)a, (size_t)b) ? qn__calloc(NULL, n, size) : NULL;
}

static bool alloc_slot(const struct qn__plan *p, struct qn__slot *s)
{
    s->x = take(p->batch, p->size, sizeof *s->x);
    s->sample = take(p->batch, 1, sizeof *s->sample);
    if (p->ds->label) s->label = take(p->batch, 1, sizeof *s->label);
    if (p->target_size) s->target = take(p->batch, p->target_size, sizeof *s->target);
    if (p->ds->on_bad == QN_BAD_SKIP) s->bad = take(p->batch, 1, sizeof *s->bad);
    return s->x && s->sample && (!p->ds->label || s->label) && (!p->target_size || s->target) &&
           (p->ds->on_bad != QN_BAD_SKIP || s->bad);
}

static bool alloc_bench(const struct qn__plan *p, struct qn__bench *b)
{
    bool augment = qn__augment_any(&p->augment), mixup = p->augment.mixup > 0;
    b->sample = -1;
    b->bytes = p->ds->store == QN_STORE_FILES ? take(p->size, 1, 1) : NULL;
    b->plane = augment ? take(p->size, 1, sizeof *b->plane) : NULL;
    b->x = mixup ? take(p->batch, p->size, sizeof *b->x) : NULL;
    b->target = mixup ? take(p->batch, p->target_size, sizeof *b->target) : NULL;
    return (b->bytes || p->ds->store != QN_STORE_FILES) && (b->plane || !augment) && ((b->x && b->target) || !mixup);
}

/* ---- the threads -------------------------------------------------------------------------- */

/* Next ticket into its slot; with the mutex held. */
static struct qn__slot *take_ticket(struct shared *s, int worker)
{
    struct qn__slot *slot = &s->slot[s->head++ % s->depth];
    slot->state = QN_SLOT_BUSY;
    slot->worker = worker;
    slot->epoch = s->next.epoch;
    slot->first = s->next.position;
    s->next.position += s->plan.batch;
    if (s->next.position >= s->plan.used) s->next = (qn_loader_state){ s->next.epoch + 1, 0 };
    return slot;
}

static void *run_worker(void *arg)
{
    struct worker *w = arg;
    struct shared *s = w->s;
    int index = w->index;
    pthread_mutex_lock(&s->mutex);
    for (;;) {
        while (!s->stop && (s->paused || s->head - s->tail >= s->depth)) pthread_cond_wait(&s->work, &s->mutex);
        if (s->stop) break;
        struct qn__slot *slot = take_ticket(s, index);
        s->busy++;
        pthread_mutex_unlock(&s->mutex);
        qn__batch_make(&s->plan, slot, &s->bench[index]);
        pthread_mutex_lock(&s->mutex);
        slot->state = QN_SLOT_READY;
        s->busy--;
        pthread_cond_broadcast(&s->ready);
    }
    pthread_mutex_unlock(&s->mutex);
    drop(s);
    return NULL;
}

/* With every signal blocked: signals belong to the program's own threads. Where not all may be started (ulimit -u)
 * those that may do the work, and if none may, qn_loader_next does it: the batches are the same. */
static qn_status start(qn_loader *l, qn_error *err)
{
    pthread_attr_t attr;
    sigset_t all, old;
    int why = pthread_attr_init(&attr);
    if (why) return qn__nomem(err, "thread", 0);
    pthread_attr_setstacksize(&attr, STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (int i = 0; i < l->s->threads && !why; i++) {
        l->s->worker[i] = (struct worker){ l->s, i };
        __atomic_fetch_add(&l->s->refs, 1, __ATOMIC_RELAXED);
        why = pthread_create(&l->thread[i], &attr, run_worker, &l->s->worker[i]);
        if (why)
            __atomic_fetch_sub(&l->s->refs, 1, __ATOMIC_RELAXED);
        else
            l->started++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    l->process = getpid();
    return QN_OK;
}

int qn_loader_threads(const qn_loader *l) { return l->started; }

/* The threads do not follow a fork, and one of them may have held the mutex when it happened. */
static bool left_behind(const qn_loader *l) { return l->started > 0 && l->process != getpid(); }

static qn_status check_process(const qn_loader *l, qn_error *err)
{
    if (!left_behind(l)) return QN_OK;
    return qn__fail(err, 3051, QN_AT_FIELD("loader"),
                    "opened before a fork, which its threads did not follow; expected one that this process has "
                    "opened");
}

/* ---- opening ------------------------------------------------------------------------------ */

static qn_status range(const char *field, double x, double low, double high, qn_error *err)
{
    if (x >= low && x <= high) return QN_OK;
    return qn__fail(err, 2301, QN_AT_FIELD(field), "%g; expected %g..%g", x, low, high);
}

static qn_status check_augment(const qn_dataset *ds, const qn_augment *a, qn_error *err)
{
    int64_t side = ds->t.dim[1] < ds->t.dim[2] ? ds->t.dim[1] : ds->t.dim[2];
    QN_TRY(range("augment.flip", a->flip, 0, 1, err));
    QN_TRY(range("augment.rotate", a->rotate, 0, 180, err));
    QN_TRY(range("augment.scale", a->scale, 0, 0.9, err));
    QN_TRY(range("augment.brightness", a->brightness, 0, 1, err));
    QN_TRY(range("augment.contrast", a->contrast, 0, 1, err));
    QN_TRY(range("augment.erase", a->erase, 0, 1, err));
    if (a->erase_area != 0) QN_TRY(range("augment.erase_area", a->erase_area, 0.02, 1, err));
    QN_TRY(range("augment.mixup", a->mixup, 0, 100, err));
    if (a->mixup > 0 && !ds->label && !ds->target)
        return qn__fail(err, 2301, QN_AT_FIELD("augment.mixup"), "data set has neither labels nor targets");
    if (ds->t.rank != 3 && (qn__augment_any(a) || a->crop))
        return qn__fail(err, 2301, QN_AT_FIELD("augment"), "samples are not images; expected only mixup");
    return ds->t.rank == 3 ? range("augment.crop", a->crop, 0, (double)(side - 1), err) : QN_OK;
}

static qn_status check_options(const qn_dataset *ds, const qn_indices *over, const qn_loader_options *o, qn_error *err)
{
    int64_t n = over ? over->n : ds->n;
    QN_TRY(range("batch", o->batch, 1, MAX_BATCH, err));
    QN_TRY(range("threads", o->threads, 0, MAX_THREADS, err));
    QN_TRY(range("depth", o->depth, 0, MAX_DEPTH, err));
    QN_TRY(range("timeout", o->timeout, 0, 1e6, err));
    QN_TRY(check_augment(ds, &o->augment, err));
    if (n < 1) return qn__fail(err, 3054, QN_AT_FILE(ds->name), "0 samples; expected at least 1");
    if (o->drop_last && n < o->batch)
        return qn__fail(err, 3054, QN_AT_FILE(ds->name), "%lld samples and no partial batch; expected at least %d",
                        (long long)n, o->batch);
    for (int64_t i = 0; over && i < n; i++)
        if (over->at[i] < 0 || over->at[i] >= ds->n)
            return qn__fail(err, 3053, QN_AT_FIELD("sample"), "%lld; expected 0..%lld", (long long)over->at[i],
                            (long long)ds->n - 1);
    return QN_OK;
}

/* A batch never exceeds the split, so neither do its buffers. */
static qn_status make_plan(struct qn__plan *p, qn_dataset *ds, const qn_indices *over, const qn_loader_options *o,
                           qn_error *err)
{
    int64_t n = over ? over->n : ds->n;
    p->ds = ds;
    p->n = n;
    p->batch = o->batch < n ? o->batch : (int)n;
    p->used = o->drop_last ? n / o->batch * o->batch : n;
    p->size = qn_transform_size(&ds->t);
    p->shuffle = o->shuffle;
    p->soft = o->augment.mixup > 0 && ds->label;
    p->target_size = p->soft ? ds->t.n_classes : ds->t.n_targets;
    p->order_key = qn__stream_key(o->seed, qn__hash_str("order"));
    p->augment_key = qn__stream_key(o->seed, qn__hash_str("augment"));
    p->augment = o->augment;
    p->over = take(n, 1, sizeof *p->over);
    if (!p->over) return qn__nomem(err, "sample list", (size_t)n * sizeof *p->over);
    for (int64_t i = 0; i < n; i++) p->over[i] = over ? over->at[i] : i;
    return QN_OK;
}

static qn_status fill(qn_loader *l, qn_error *err)
{
    struct shared *s = l->s;
    int benches = s->threads ? s->threads : 1;
    s->slot = qn__calloc(NULL, (size_t)s->depth, sizeof *s->slot);
    s->bench = qn__calloc(NULL, (size_t)benches, sizeof *s->bench);
    bool ok = s->slot && s->bench;
    for (int i = 0; ok && i < s->depth; i++) ok = alloc_slot(&s->plan, &s->slot[i]);
    for (int i = 0; ok && i < benches; i++) ok = alloc_bench(&s->plan, &s->bench[i]);
    if (!ok)
        return qn__nomem(err, "loader",
                         (size_t)s->depth * (size_t)s->plan.batch * (size_t)s->plan.size * sizeof(float));
    return start(l, err);
}

static struct shared *new_shared(qn_dataset *ds, const qn_loader_options *o)
{
    struct shared *s = qn__calloc(NULL, 1, sizeof *s);
    pthread_condattr_t clock;
    if (!s) return NULL;
    s->refs = 1;
    qn__dataset_hold(ds);
    s->plan.ds = ds;
    s->threads = o->threads;
    s->depth = o->threads == 0 ? 1 : o->depth ? o->depth : o->threads + 2;
    if (s->depth < 2 && o->threads) s->depth = 2; /* one held by the consumer, one being made */
    pthread_mutex_init(&s->mutex, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->ready, &clock);
    pthread_condattr_destroy(&clock);
    return s;
}

qn_status qn_loader_open(qn_loader **out, qn_dataset *ds, const qn_indices *over, const qn_loader_options *options,
                         qn_error *err)
{
    const double default_timeout = 60;
    *out = NULL;
    QN_TRY(check_options(ds, over, options, err));
    qn_loader *l = qn__calloc(NULL, 1, sizeof *l);
    if (l) l->s = new_shared(ds, options);
    if (!l || !l->s) {
        qn__free(NULL, l, sizeof *l);
        return qn__nomem(err, "loader", sizeof *l->s);
    }
    l->timeout = options->timeout > 0 ? options->timeout : default_timeout;
    qn_status status = make_plan(&l->s->plan, ds, over, options, err);
    if (!status) status = fill(l, err);
    if (status)
        qn_loader_free(l);
    else
        *out = l;
    return status;
}

/* ---- the consumer ------------------------------------------------------------------------- */

static struct timespec deadline(double seconds)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    double whole = (double)t.tv_nsec * 1e-9 + seconds;
    t.tv_sec += (time_t)whole;
    t.tv_nsec = (long)((whole - (double)(time_t)whole) * 1e9);
    return t;
}

static qn_status name_stalled(qn_loader *l, int worker, qn_error *err)
{
    char name[256];
    const struct shared *s = l->s;
    int64_t sample = __atomic_load_n(&s->bench[worker].sample, __ATOMIC_RELAXED);
    l->stalled = true;
    if (sample < 0)
        return qn__fail(err, 3051, QN_AT_FIELD("loader"), "worker %d: no batch for %g s; expected one", worker,
                        l->timeout);
    qn_dataset_sample_name(s->plan.ds, sample, name, sizeof name);
    return qn__fail(err, 3051, QN_AT_FIELD("loader"),
                    "worker %d: no batch for %g s while reading %s (sample %lld); expected one", worker, l->timeout,
                    qn__show(name).s, (long long)sample);
}

/* Until the slot is ready, or (slot NULL) no thread is making a batch; with the mutex held. */
static qn_status wait_for(qn_loader *l, const struct qn__slot *slot, qn_error *err)
{
    struct shared *s = l->s;
    struct timespec until = deadline(l->timeout);
    while (slot ? slot->state != QN_SLOT_READY : s->busy > 0) {
        if (pthread_cond_timedwait(&s->ready, &s->mutex, &until) != ETIMEDOUT) continue;
        if (slot ? slot->state == QN_SLOT_READY : s->busy == 0) break;
        int worker = 0;
        for (int i = 0; i < s->depth; i++)
            if (s->slot[i].state == QN_SLOT_BUSY) worker = s->slot[i].worker;
        return name_stalled(l, slot && slot->state == QN_SLOT_BUSY ? slot->worker : worker, err);
    }
    l->stalled = false;
    return QN_OK;
}

static void give_back(qn_loader *l)
{
    struct shared *s = l->s;
    if (!l->holding) return;
    s->slot[s->tail++ % s->depth].state = QN_SLOT_FREE;
    l->holding = false;
    pthread_cond_signal(&s->work);
}

/* The slot of the next ticket, filled; the loader's position moves behind it. */
static qn_status next_slot(qn_loader *l, struct qn__slot **out, qn_error *err)
{
    struct shared *s = l->s;
    qn_status status = QN_OK;
    pthread_mutex_lock(&s->mutex);
    give_back(l);
    struct qn__slot *slot = &s->slot[s->tail % s->depth];
    if (l->started) {
        status = wait_for(l, slot, err);
    } else {
        take_ticket(s, 0);
        qn__batch_make(&s->plan, slot, &s->bench[0]);
    }
    pthread_mutex_unlock(&s->mutex);
    if (status) return status;
    l->holding = true;
    int64_t behind = slot->first + s->plan.batch;
    l->at.position = behind < s->plan.used ? behind : s->plan.used;
    *out = slot;
    return QN_OK;
}

static qn_status note_bad(qn_loader *l, const struct qn__slot *slot, qn_error *err)
{
    for (int i = 0; i < slot->n_bad; i++)
        QN_TRY(qn__dataset_skip(l->s->plan.ds, slot->bad[i].sample, &slot->bad[i].err, err));
    return QN_OK;
}

qn_status qn_loader_next(qn_loader *l, const qn_batch **out, qn_error *err)
{
    struct qn__slot *slot;
    *out = NULL;
    QN_TRY(check_process(l, err));
    while (l->at.position < l->s->plan.used) {
        QN_TRY(next_slot(l, &slot, err));
        if (slot->err.code) {
            if (err) *err = slot->err;
            return qn_error_status(&slot->err);
        }
        QN_TRY(note_bad(l, slot, err));
        if (slot->count == 0) continue; /* every sample of it was bad and has been listed */
        l->batch = (qn_batch){ .x = slot->x,
                               .label = slot->label,
                               .target = slot->target,
                               .sample = slot->sample,
                               .count = slot->count,
                               .epoch = slot->epoch,
                               .first = slot->first };
        *out = &l->batch;
        return QN_OK;
    }
    l->at = (qn_loader_state){ l->at.epoch + 1, 0 };
    return QN_OK;
}

int64_t qn_loader_samples(const qn_loader *l) { return l->s->plan.used; }
int64_t qn_loader_batches(const qn_loader *l) { return (l->s->plan.used + l->s->plan.batch - 1) / l->s->plan.batch; }
qn_loader_state qn_loader_tell(const qn_loader *l) { return l->at; }

qn_status qn_loader_seek(qn_loader *l, qn_loader_state state, qn_error *err)
{
    struct shared *s = l->s;
    int64_t used = s->plan.used;
    QN_TRY(check_process(l, err));
    if (state.epoch < 0 || state.epoch >= UINT32_MAX)
        return qn__fail(err, 3053, QN_AT_FIELD("epoch"), "%lld; expected 0..4294967294", (long long)state.epoch);
    if (state.position < 0 || state.position > used || (state.position % s->plan.batch && state.position != used))
        return qn__fail(err, 3053, QN_AT_FIELD("position"), "%lld; expected a multiple of %d, or %lld",
                        (long long)state.position, s->plan.batch, (long long)used);
    pthread_mutex_lock(&s->mutex);
    s->paused = true;
    qn_status status = wait_for(l, NULL, err);
    if (!status) {
        for (int i = 0; i < s->depth; i++) s->slot[i].state = QN_SLOT_FREE;
        s->head = s->tail = 0;
        s->next = state.position < used ? state : (qn_loader_state){ state.epoch + 1, 0 };
        l->holding = false;
        l->at = state;
    }
    s->paused = false;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->mutex);
    return status;
}

/* ---- closing ------------------------------------------------------------------------------ */

void qn_loader_free(qn_loader *l)
{
    if (!l) return;
    struct shared *s = l->s;
    qn_error ignored = { 0 };
    if (left_behind(l)) { /* what the threads share stays theirs */
        qn__free(NULL, l, sizeof *l);
        return;
    }
    pthread_mutex_lock(&s->mutex);
    s->stop = true;
    pthread_cond_broadcast(&s->work);
    bool stuck = l->stalled || wait_for(l, NULL, &ignored) != QN_OK;
    pthread_mutex_unlock(&s->mutex);
    for (int i = 0; i < l->started; i++) {
        if (stuck)
            pthread_detach(l->thread[i]);
        else
            pthread_join(l->thread[i], NULL);
    }
    drop(s);
    qn__free(NULL, l, sizeof *l);
}
