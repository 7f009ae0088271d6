/* test_loader.c - the loader: the same bytes for any number of threads, resuming, errors and
 * hangs of threads (rows G1, G2), mixup, tails; and the augmentations one by one. */
#include "aid.h"
#include <math.h>
#include <pthread.h>

enum { N = 103, SIZE = 784 };

static qn_dataset *digits(void)
{
    qn_dataset *ds;
    qn_error err = { 0 };
    assert_int_equal(qn_dataset_digits(&ds, N, 11, &err), QN_OK);
    assert_int_equal(qn_dataset_fit(ds, NULL, &err), QN_OK);
    return ds;
}

static const qn_loader_options everything = {
    .batch = 16,
    .shuffle = true,
    .seed = 42,
    .augment = { .flip = 0.5,
                 .rotate = 15,
                 .scale = 0.1,
                 .crop = 3,
                 .brightness = 0.2,
                 .contrast = 0.2,
                 .erase = 0.5,
                 .mixup = 0.2 },
};

static qn_loader *open_loader(qn_dataset *ds, const qn_indices *over, qn_loader_options o, int threads)
{
    qn_loader *l;
    qn_error err = { 0 };
    o.threads = threads;
    if (qn_loader_open(&l, ds, over, &o, &err)) fail_msg("%s", err.text);
    return l;
}

static uint64_t mix(uint64_t h, const void *p, size_t n) { return p ? h * 31 + qn__hash(p, n) : h; }

/* Every byte of `batches` batches and ends of epochs. */
static uint64_t hash_batches(qn_loader *l, int batches)
{
    uint64_t h = 0;
    for (int i = 0; i < batches; i++) {
        const qn_batch *b;
        qn_error err = { 0 };
        if (qn_loader_next(l, &b, &err)) fail_msg("%s", err.text);
        if (!b) {
            h = h * 7 + 1;
            continue;
        }
        size_t n = (size_t)b->count;
        h = mix(h, b->x, n * SIZE * sizeof *b->x);
        h = mix(h, b->label, n * sizeof *b->label);
        h = mix(h, b->target, n * 10 * sizeof *b->target);
        h = mix(h, b->sample, n * sizeof *b->sample);
        h = h * 31 + n + (uint64_t)b->epoch * 1000 + (uint64_t)b->first * 7;
    }
    return h;
}

static void threads_cannot_be_seen(void **state)
{
    (void)state;
    static const int threads[] = { 0, 1, 2, 5 };
    uint64_t first = 0;
    qn_dataset *ds = digits();
    for (int i = 0; i < 4; i++) {
        for (int depth = 0; depth < 3; depth++) {
            qn_loader_options o = everything;
            o.depth = depth;
            qn_loader *l = open_loader(ds, NULL, o, threads[i]);
            uint64_t h = hash_batches(l, 3 * 8);
            if (!first) first = h;
            assert_int_equal(h, first);
            qn_loader_free(l);
        }
    }
    qn_loader_options other = everything;
    other.seed++;
    qn_loader *l = open_loader(ds, NULL, other, 2);
    assert_int_not_equal(hash_batches(l, 3 * 8), first);
    qn_loader_free(l);
    qn_dataset_free(ds);
}

/* From every position of two epochs: a new loader that is told the state goes on with the same
 * bytes. */
static void resumes_anywhere(void **state)
{
    (void)state;
    qn_dataset *ds = digits();
    for (int k = 0; k <= 17; k++) {
        qn_error err = { 0 };
        qn_loader *l = open_loader(ds, NULL, everything, 2), *fresh = open_loader(ds, NULL, everything, k % 3);
        hash_batches(l, k);
        qn_loader_state at = qn_loader_tell(l);
        (void)hash_batches(fresh, k % 5); /* whatever it did before does not matter */
        assert_int_equal(qn_loader_seek(fresh, at, &err), QN_OK);
        assert_int_equal(qn_loader_tell(fresh).position, at.position);
        assert_int_equal(hash_batches(fresh, 12), hash_batches(l, 12));
        qn_loader_free(l);
        qn_loader_free(fresh);
    }
    /* A state that forgets the epoch, or a batch, must show. */
    qn_loader *a = open_loader(ds, NULL, everything, 1), *b = open_loader(ds, NULL, everything, 1);
    assert_int_equal(qn_loader_seek(a, (qn_loader_state){ 1, 16 }, NULL), QN_OK);
    uint64_t right = hash_batches(a, 3);
    assert_int_equal(qn_loader_seek(b, (qn_loader_state){ 0, 16 }, NULL), QN_OK);
    assert_int_not_equal(hash_batches(b, 3), right);
    assert_int_equal(qn_loader_seek(b, (qn_loader_state){ 1, 32 }, NULL), QN_OK);
    assert_int_not_equal(hash_batches(b, 3), right);
    qn_error err = { 0 };
    assert_int_equal(qn_loader_seek(b, (qn_loader_state){ 1, 17 }, &err), QN_EDATA);
    aid_error(&err, "error E3053 data: position: 17; expected a multiple of 16, or 103");
    assert_int_equal(qn_loader_seek(b, (qn_loader_state){ -1, 0 }, &err), QN_EDATA);
    aid_error(&err, "error E3053 data: epoch: -1; expected 0..4294967294");
    qn_loader_free(a);
    qn_loader_free(b);
    qn_dataset_free(ds);
}

static void each_sample_once_per_epoch(void **state)
{
    (void)state;
    qn_dataset *ds = digits();
    qn_indices train, valid;
    int64_t order[2][N];
    assert_int_equal(qn_split_fraction(&train, &valid, ds, NULL, 0.2, 1, true, NULL), QN_OK);
    const qn_loader_options o = { .batch = 10, .shuffle = true, .seed = 1 };
    qn_loader *l = open_loader(ds, &train, o, 2);
    qn_dataset_free(ds); /* the loader keeps it */
    assert_int_equal(qn_loader_samples(l), train.n);
    assert_int_equal(qn_loader_batches(l), (train.n + 9) / 10);
    for (int epoch = 0; epoch < 2; epoch++) {
        int seen[N] = { 0 };
        int64_t n = 0;
        const qn_batch *b;
        while (qn_loader_next(l, &b, NULL) == QN_OK && b) {
            assert_int_equal(b->first, n);
            assert_int_equal(b->epoch, epoch);
            assert_int_equal(b->count, train.n - n < 10 ? train.n - n : 10);
            assert_null(b->target);
            for (int k = 0; k < b->count; k++) {
                assert_int_equal(b->label[k], b->sample[k] % 10);
                seen[b->sample[k]]++;
                order[epoch][n++] = b->sample[k];
            }
        }
        assert_int_equal(n, train.n);
        for (int64_t i = 0; i < train.n; i++) assert_int_equal(seen[train.at[i]], 1);
    }
    assert_memory_not_equal(order[0], order[1], (size_t)train.n * sizeof **order);
    assert_memory_not_equal(order[0], train.at, (size_t)train.n * sizeof **order);
    qn_loader_free(l);
    qn_indices_free(&train);
    qn_indices_free(&valid);
}

static void tails_and_list_order(void **state)
{
    (void)state;
    qn_dataset *ds = digits();
    const qn_batch *b;
    float x[SIZE];
    qn_loader *l = open_loader(ds, NULL, (qn_loader_options){ .batch = 50, .drop_last = true }, 1);
    assert_int_equal(qn_loader_samples(l), 100);
    assert_int_equal(qn_loader_batches(l), 2);
    assert_int_equal(qn_loader_next(l, &b, NULL), QN_OK);
    assert_int_equal(b->sample[49], 49);
    assert_int_equal(qn_dataset_read(ds, 49, x, NULL), QN_OK);
    assert_memory_equal(b->x + 49 * SIZE, x, sizeof x); /* without augmentation a batch is what read gives */
    assert_int_equal(qn_loader_next(l, &b, NULL), QN_OK);
    assert_int_equal(qn_loader_next(l, &b, NULL), QN_OK);
    assert_null(b);
    qn_loader_free(l);
    l = open_loader(ds, NULL, (qn_loader_options){ .batch = 1000 }, 1); /* more than there are */
    assert_int_equal(qn_loader_next(l, &b, NULL), QN_OK);
    assert_int_equal(b->count, N);
    qn_loader_free(l);
    qn_dataset_free(ds);
}

static void mixup_targets(void **state)
{
    (void)state;
    qn_dataset *ds = digits();
    const qn_batch *b;
    qn_loader_options o = { .batch = 32, .shuffle = true, .seed = 3, .augment.mixup = 0.4 };
    qn_loader *l = open_loader(ds, NULL, o, 2);
    int soft = 0;
    assert_int_equal(qn_loader_next(l, &b, NULL), QN_OK);
    for (int k = 0; k < b->count; k++) {
        float sum = 0, x[SIZE], least = 1e9f;
        for (int c = 0; c < 10; c++) sum += b->target[k * 10 + c];
        assert_true(fabsf(sum - 1) < 1e-6f);
        float lambda = b->target[k * 10 + b->label[k]];
        soft += lambda < 0.99f;
        /* some partner in the batch explains the pixels */
        float own[SIZE];
        assert_int_equal(qn_dataset_read(ds, b->sample[k], own, NULL), QN_OK);
        for (int j = 0; j < b->count; j++) {
            float worst = 0;
            if (b->label[j] == b->label[k] && lambda < 1) continue;
            assert_int_equal(qn_dataset_read(ds, b->sample[j], x, NULL), QN_OK);
            for (int i = 0; i < SIZE; i++) {
                float d = fabsf(lambda * own[i] + (1 - lambda) * x[i] - b->x[k * SIZE + i]);
                if (d > worst) worst = d;
            }
            if (worst < least) least = worst;
        }
        if (lambda < 1) assert_true(least < 1e-4f);
    }
    assert_true(soft > 3);
    qn_loader_free(l);
    qn_dataset_free(ds);
    /* Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)); 20,000 fixed draws. */
    static const double alpha[] = { 0.1, 0.5, 1, 4 };
    for (int a = 0; a < 4; a++) {
        double sum = 0, squares = 0;
        for (int i = 0; i < 20000; i++) {
            double v = (double)qn__mixup_lambda(alpha[a], 7, 0, i);
            assert_true(v >= 0 && v <= 1);
            sum += v;
            squares += v * v;
        }
        double mean = sum / 20000, var = squares / 20000 - mean * mean, want = 1 / (4 * (2 * alpha[a] + 1));
        assert_true(fabs(mean - 0.5) < 0.015);
        assert_true(fabs(var / want - 1) < 0.05);
    }
}

/* ---- augmentation ------------------------------------------------------------------------- */

static void augment(const qn_augment *a, int64_t sample, float *x, int c, int h, int w)
{
    float scratch[1024];
    qn__augment(a, 99, 3, sample, x, scratch, (int64_t[3]){ c, h, w });
}

static void flips_and_crops_exactly(void **state)
{
    (void)state;
    float x[12];
    for (int i = 0; i < 12; i++) x[i] = (float)i; /* 2 channels of 2x3 */
    augment(&(qn_augment){ .flip = 1 }, 0, x, 2, 2, 3);
    static const float flipped[12] = { 2, 1, 0, 5, 4, 3, 8, 7, 6, 11, 10, 9 };
    assert_memory_equal(x, flipped, sizeof x);
    bool seen[3][3] = { { 0 } };
    for (int64_t s = 0; s < 200; s++) { /* a single 1 in the middle shows the offset */
        float y[9] = { 0, 0, 0, 0, 1, 0, 0, 0, 0 };
        int at = -1;
        augment(&(qn_augment){ .crop = 1 }, s, y, 1, 3, 3);
        for (int i = 0; i < 9; i++)
            if (y[i] == 1) at = i;
        assert_in_range(at, 0, 8);
        seen[at / 3][at % 3] = true;
    }
    for (int i = 0; i < 9; i++) assert_true(seen[i / 3][i % 3]);
    float z[4] = { 1, 2, 3, 4 };
    augment(&(qn_augment){ .crop = 1, .flip = 1 }, 1, z, 1, 2, 2);
    for (int i = 0; i < 4; i++) assert_true(z[i] == 0 || (z[i] >= 1 && z[i] <= 4));
}

/* The bilinear path, given only a flip and whole pixels of crop, agrees with the copying path. */
static void warp_agrees_with_shift(void **state)
{
    (void)state;
    for (int64_t s = 0; s < 100; s++) {
        float a[35], b[35];
        for (int i = 0; i < 35; i++) a[i] = b[i] = (float)((i * 7) % 13);
        augment(&(qn_augment){ .flip = 0.5, .crop = 2 }, s, a, 1, 5, 7);
        augment(&(qn_augment){ .flip = 0.5, .crop = 2, .scale = 1e-300 }, s, b, 1, 5, 7);
        for (int i = 0; i < 35; i++) assert_true(fabsf(a[i] - b[i]) < 1e-4f);
    }
}

static double centroid_angle(const float *x, int side)
{
    double sx = 0, sy = 0;
    for (int i = 0; i < side * side; i++) {
        sx += (double)x[i] * (i % side - (side - 1) / 2.0);
        sy += (double)x[i] * (i / side - (side - 1) / 2.0);
    }
    return atan2(sy, sx) * 180 / 3.14159265358979;
}

static void rotates_within_its_range(void **state)
{
    (void)state;
    enum { SIDE = 27 };
    double low = 0, high = 0;
    for (int64_t s = 0; s < 300; s++) {
        float x[SIDE * SIDE] = { 0 };
        for (int y = -1; y <= 1; y++)
            for (int k = -1; k <= 1; k++) x[(13 + y) * SIDE + 22 + k] = 1; /* a blob to the right of the centre */
        augment(&(qn_augment){ .rotate = 15 }, s, x, 1, SIDE, SIDE);
        double angle = centroid_angle(x, SIDE), mass = 0;
        for (int i = 0; i < SIDE * SIDE; i++) mass += (double)x[i];
        assert_true(fabs(mass - 9) < 0.2);
        low = angle < low ? angle : low;
        high = angle > high ? angle : high;
    }
    assert_true(low > -15.3 && low < -13.5);
    assert_true(high < 15.3 && high > 13.5);
}

static void scales_light_and_erases(void **state)
{
    (void)state;
    enum { SIDE = 21 };
    double least = 1e9, most = 0;
    int erased = 0;
    for (int64_t s = 0; s < 200; s++) {
        float x[SIDE * SIDE] = { 0 }, y[SIDE * SIDE], z[SIDE * SIDE];
        for (int i = 0; i < SIDE * SIDE; i++) x[i] = abs(i % SIDE - 10) < 5 && abs(i / SIDE - 10) < 5 ? 1.0f : 0.0f;
        augment(&(qn_augment){ .scale = 0.2 }, s, x, 1, SIDE, SIDE);
        double area = 0, add = 0;
        for (int i = 0; i < SIDE * SIDE; i++) area += (double)x[i];
        least = area < least ? area : least;
        most = area > most ? area : most;
        for (int i = 0; i < SIDE * SIDE; i++) y[i] = 0.5f, z[i] = 1;
        augment(&(qn_augment){ .brightness = 0.3, .contrast = 0.5 }, s, y, 1, SIDE, SIDE); /* flat: contrast keeps it */
        add = (double)y[0] - 0.5;
        assert_true(fabs(add) <= 0.3001);
        for (int i = 0; i < SIDE * SIDE; i++) assert_true(fabsf(y[i] - y[0]) < 1e-6f);
        augment(&(qn_augment){ .erase = 0.5, .erase_area = 0.25 }, s, z, 1, SIDE, SIDE);
        int zeros = 0;
        for (int i = 0; i < SIDE * SIDE; i++) zeros += z[i] == 0;
        assert_true(zeros <= SIDE * SIDE * 0.32); /* 0.25 and the rounding of two sides */
        erased += zeros > 0;
    }
    assert_true(least > 81 * 0.64 * 0.9 && least < 81 * 0.75);
    assert_true(most < 81 * 1.44 * 1.1 && most > 81 * 1.3);
    assert_in_range(erased, 70, 130);
}

/* ---- faults ------------------------------------------------------------------------------- */

static qn_dataset *folder(int n, int bad, qn_on_bad policy, int64_t max_bad)
{
    qn_dataset *ds;
    qn_error err = { 0 };
    char name[64];
    workdir_remove(workdir_path("set"));
    mkdir(workdir_path("set"), 0700);
    mkdir(workdir_path("set/a"), 0700);
    for (int i = 0; i < n; i++) {
        const uint8_t pixel = (uint8_t)i;
        snprintf(name, sizeof name, "set/a/%03d.png", i);
        if (i % 10 >= 10 - bad)
            workdir_write(name, "rubbish", 7);
        else
            assert_int_equal(qn_png_write(workdir_path(name), &pixel, 1, 1, 1, &err), QN_OK);
    }
    const qn_dataset_options o = { .on_bad = policy, .max_bad = max_bad };
    assert_int_equal(qn_dataset_from_folder(&ds, workdir_path("set"), &o, &err), QN_OK);
    return ds;
}

/* An error of a thread comes out once, where its batch would have been, and names file and sample. */
static void errors_come_out_once(void **state)
{
    (void)state;
    for (int threads = 0; threads < 4; threads++) {
        qn_dataset *ds = folder(20, 1, QN_BAD_STOP, 0);
        qn_loader *l = open_loader(ds, NULL, (qn_loader_options){ .batch = 5 }, threads);
        for (int i = 0; i < 4; i++) {
            const qn_batch *b;
            qn_error err = { 0 };
            qn_status status = qn_loader_next(l, &b, &err);
            assert_int_equal(status, i % 2 ? QN_EDATA : QN_OK);
            if (!status)
                assert_int_equal(b->first, i * 5);
            else
                aid_error(&err, i == 1 ? "error E3012 data: set/a/009.png@0: signature: not a PNG file; expected 89 "
                                         "\"PNG\" 0d 0a 1a 0a; sample 9"
                                       : "error E3012 data: set/a/019.png@0: signature: not a PNG file; expected 89 "
                                         "\"PNG\" 0d 0a 1a 0a; sample 19");
        }
        const qn_batch *b;
        assert_int_equal(qn_loader_next(l, &b, NULL), QN_OK);
        assert_null(b);
        qn_loader_free(l);
        qn_dataset_free(ds);
    }
}

static void skipped_samples_are_listed(void **state)
{
    (void)state;
    for (int threads = 0; threads < 3; threads++) {
        qn_dataset *ds = folder(20, 2, QN_BAD_SKIP, 4);
        qn_loader *l = open_loader(ds, NULL, (qn_loader_options){ .batch = 2 }, threads);
        const qn_batch *b;
        int n = 0;
        for (int epoch = 0; epoch < 2; epoch++) /* batches 8..9 and 18..19 are bad altogether and passed over */
            while (qn_loader_next(l, &b, NULL) == QN_OK && b) n += b->count;
        assert_int_equal(n, 32);
        int64_t sample;
        assert_int_equal(qn_dataset_bad_count(ds), 4);
        for (int i = 0; i < 4; i++) {
            static const int expected[] = { 8, 9, 18, 19 };
            assert_non_null(qn_dataset_bad(ds, i, &sample));
            assert_int_equal(sample, expected[i]);
        }
        qn_loader_free(l);
        qn_dataset_free(ds);
        ds = folder(20, 2, QN_BAD_SKIP, 3);
        l = open_loader(ds, NULL, (qn_loader_options){ .batch = 20 }, threads);
        qn_error err = { 0 };
        assert_int_equal(qn_loader_next(l, &b, &err), QN_EDATA);
        assert_non_null(strstr(err.text, "bad samples: 4; expected at most 3; the last: error E3012 data: "));
        assert_non_null(strstr(err.text, "sample 19"));
        assert_int_equal(err.code, 3052);
        qn_loader_free(l);
        qn_dataset_free(ds);
    }
}

/* A pipe where a picture should be: refused at once instead of waiting for a writer for ever. */
static void pipe_does_not_hang(void **state)
{
    (void)state;
    qn_dataset *ds = folder(4, 0, QN_BAD_STOP, 0);
    const qn_batch *b;
    qn_error err = { 0 };
    unlink(workdir_path("set/a/002.png"));
    assert_int_equal(mkfifo(workdir_path("set/a/002.png"), 0600), 0);
    qn_loader *l = open_loader(ds, NULL, (qn_loader_options){ .batch = 4 }, 2);
    assert_int_equal(qn_loader_next(l, &b, &err), QN_EIO);
    assert_int_equal(err.code, 6001);
    assert_non_null(strstr(err.text, "002.png"));
    qn_loader_free(l);
    qn_dataset_free(ds);
}

static struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t opened;
    bool open;
    int64_t sample;
} gate = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0 };

static void stand_still(void *user, int64_t i)
{
    struct gate *g = user;
    if (i != g->sample) return;
    pthread_mutex_lock(&g->mutex);
    while (!g->open) pthread_cond_wait(&g->opened, &g->mutex);
    pthread_mutex_unlock(&g->mutex);
}

static void set_gate(bool open)
{
    pthread_mutex_lock(&gate.mutex);
    gate.open = open;
    pthread_cond_broadcast(&gate.opened);
    pthread_mutex_unlock(&gate.mutex);
}

/* A thread that hangs in a file is named after the time limit; when it comes back, nothing has
 * been lost. */
static void hanging_thread_is_named(void **state)
{
    (void)state;
    qn_dataset *ds = digits();
    const qn_batch *b;
    qn_error err = { 0 };
    gate.sample = 21;
    set_gate(false);
    ds->before_read = stand_still;
    ds->before_user = &gate;
    qn_loader *l = open_loader(ds, NULL, (qn_loader_options){ .batch = 10, .timeout = 0.1 }, 1);
    assert_int_equal(qn_loader_next(l, &b, &err), QN_OK);
    assert_int_equal(qn_loader_next(l, &b, &err), QN_OK);
    assert_int_equal(qn_loader_next(l, &b, &err), QN_EDATA);
    aid_error(&err, "error E3051 data: loader: worker 0: no batch for 0.1 s while reading drawn digits, sample 21 "
                    "(sample 21); expected one");
    assert_int_equal(qn_loader_seek(l, (qn_loader_state){ 0, 0 }, &err), QN_EDATA);
    assert_int_equal(err.code, 3051);
    set_gate(true);
    do assert_true(qn_loader_next(l, &b, &err) == QN_OK || err.code == 3051);
    while (!b);
    assert_int_equal(b->first, 20);
    qn_loader_free(l);
    /* Closing while a thread hangs does not wait for it; what it uses is freed when it comes back. */
    set_gate(false);
    l = open_loader(ds, NULL, (qn_loader_options){ .batch = 10, .timeout = 0.05 }, 3);
    for (int i = 0; i < 2; i++) assert_int_equal(qn_loader_next(l, &b, &err), QN_OK);
    assert_int_equal(qn_loader_next(l, &b, &err), QN_EDATA);
    qn_loader_free(l);
    qn__dataset_hold(ds);
    qn_dataset_free(ds);
    set_gate(true);
    while (__atomic_load_n(&ds->refs, __ATOMIC_ACQUIRE) > 1) usleep(1000);
    qn_dataset_free(ds);
}

static void closes_in_any_state(void **state)
{
    (void)state;
    qn_dataset *ds = digits();
    for (int k = 0; k < 60; k++) {
        qn_loader *l = open_loader(ds, NULL, everything, k % 6);
        hash_batches(l, k % 11);
        if (k % 2) assert_int_equal(qn_loader_seek(l, (qn_loader_state){ k, 0 }, NULL), QN_OK);
        qn_loader_free(l);
    }
    qn_dataset_free(ds);
    qn_loader_free(NULL);
}

static void refuses_bad_options(void **state)
{
    (void)state;
    qn_dataset *ds = digits();
    static const struct {
        qn_loader_options o;
        const char *line;
    } cases[] = {
        { { .batch = 0 }, "error E2301 config: batch: 0; expected 1..1.67772e+07" },
        { { .batch = 1, .threads = 257 }, "error E2301 config: threads: 257; expected 0..256" },
        { { .batch = 1, .threads = -1 }, "error E2301 config: threads: -1; expected 0..256" },
        { { .batch = 1, .augment.flip = 1.5 }, "error E2301 config: augment.flip: 1.5; expected 0..1" },
        { { .batch = 1, .augment.rotate = -1 }, "error E2301 config: augment.rotate: -1; expected 0..180" },
        { { .batch = 1, .augment.crop = 28 }, "error E2301 config: augment.crop: 28; expected 0..27" },
        { { .batch = 1, .augment.mixup = (double)NAN }, "error E2301 config: augment.mixup: nan; expected 0..100" },
        { { .batch = 200, .drop_last = true },
          "error E3054 data: drawn digits: 103 samples and no partial batch; expected at least 200" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        qn_loader *l;
        qn_error err = { 0 };
        assert_int_equal(qn_loader_open(&l, ds, NULL, &cases[i].o, &err),
                         strstr(cases[i].line, "E2") ? QN_EUSAGE : QN_EDATA);
        aid_error(&err, cases[i].line);
        assert_null(l);
    }
    int64_t far = N;
    qn_loader *l;
    qn_error err = { 0 };
    const qn_loader_options o = { .batch = 1 };
    assert_int_equal(qn_loader_open(&l, ds, &(qn_indices){ &far, 1 }, &o, &err), QN_EDATA);
    aid_error(&err, "error E3053 data: sample: 103; expected 0..102");
    assert_int_equal(qn_loader_open(&l, ds, &(qn_indices){ 0 }, &o, &err), QN_EDATA);
    aid_error(&err, "error E3054 data: drawn digits: 0 samples; expected at least 1");
    qn_dataset_free(ds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_cannot_be_seen),
        cmocka_unit_test(resumes_anywhere),
        cmocka_unit_test(each_sample_once_per_epoch),
        cmocka_unit_test(tails_and_list_order),
        cmocka_unit_test(mixup_targets),
        cmocka_unit_test(flips_and_crops_exactly),
        cmocka_unit_test(warp_agrees_with_shift),
        cmocka_unit_test(rotates_within_its_range),
        cmocka_unit_test(scales_light_and_erases),
        cmocka_unit_test(errors_come_out_once),
        cmocka_unit_test(skipped_samples_are_listed),
        cmocka_unit_test(pipe_does_not_hang),
        cmocka_unit_test(hanging_thread_is_named),
        cmocka_unit_test(closes_in_any_state),
        cmocka_unit_test(refuses_bad_options),
    };
    return cmocka_run_group_tests(tests, workdir_begin, workdir_end);
}
