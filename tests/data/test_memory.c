/* test_memory.c - making a batch allocates nothing; and every allocation of every reader fails in
 * turn: the answer is "out of memory", nothing is lost and nothing breaks (fault row B4). */
#include "aid.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_ALLOCATOR 0
#else
#define OWN_ALLOCATOR 1
#endif

/* calls: of any allocating function; live: blocks not yet freed; fail_at: counts down over the
 * calls of realloc, through which all of Quern's own allocations go. */
static int64_t calls, live, fail_at = -1;
static bool for_ever;

#if OWN_ALLOCATOR
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);

static void *count(void *p, int64_t blocks)
{
    __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
    if (p) __atomic_fetch_add(&live, blocks, __ATOMIC_RELAXED);
    return p;
}

void *malloc(size_t n) { return count(__libc_malloc(n), 1); }
void *calloc(size_t n, size_t size) { return count(__libc_calloc(n, size), 1); }
void *realloc(void *p, size_t n)
{
    if (fail_at >= 0 && (fail_at == 0 || fail_at-- == 0)) {
        if (!for_ever) fail_at = -1;
        return NULL;
    }
    return count(__libc_realloc(p, n), p ? 0 : 1);
}
void free(void *p)
{
    if (p) __atomic_fetch_sub(&live, 1, __ATOMIC_RELAXED);
    __libc_free(p);
}
#endif

static void batches_allocate_nothing(void **state)
{
    (void)state;
    static const int threads[] = { 0, 2 };
    if (!OWN_ALLOCATOR) print_message("a sanitizer owns the allocator: calls are not counted\n");
    for (int i = 0; i < 2; i++) {
        qn_dataset *ds;
        qn_loader *l;
        const qn_batch *b;
        const qn_loader_options o = {
            .batch = 16,
            .shuffle = true,
            .threads = threads[i],
            .augment = { .flip = 0.5, .rotate = 9, .erase = 0.5, .contrast = 0.1, .mixup = 0.3 },
        };
        assert_int_equal(qn_dataset_digits(&ds, 100, 1, NULL), QN_OK);
        assert_int_equal(qn_loader_open(&l, ds, NULL, &o, NULL), QN_OK);
        assert_int_equal(qn_loader_next(l, &b, NULL), QN_OK);
        usleep(20000); /* the threads have started */
        int64_t before = __atomic_load_n(&calls, __ATOMIC_RELAXED);
        int made = 0;
        for (int k = 0; k < 40; k++) made += qn_loader_next(l, &b, NULL) == QN_OK;
        int64_t after = __atomic_load_n(&calls, __ATOMIC_RELAXED);
        assert_int_equal(made, 40);
        assert_int_equal(after - before, 0);
        qn_loader_free(l);
        qn_dataset_free(ds);
    }
}

/* ---- scenarios: each returns the first status that is not QN_OK ---------------------------- */

static qn_status use(qn_dataset *ds, qn_error *err)
{
    qn_indices a = { 0 }, b = { 0 };
    qn_loader *l = NULL;
    const qn_batch *batch;
    qn_transform t = { 0 };
    const qn_loader_options o = { .batch = 2, .shuffle = true };
    qn_status status = qn_split_fraction(&a, &b, ds, NULL, 0.5, 1, false, err);
    if (!status) status = qn_dataset_fit(ds, &a, err);
    if (!status) status = qn_transform_copy(&t, qn_dataset_transform(ds), err);
    if (!status) status = qn_loader_open(&l, ds, &a, &o, err);
    if (!status) status = qn_loader_next(l, &batch, err);
    qn_loader_free(l);
    qn_transform_free(&t);
    qn_indices_free(&a);
    qn_indices_free(&b);
    qn_dataset_free(ds);
    return status;
}

static qn_status run_digits(qn_error *err)
{
    qn_dataset *ds;
    qn_status status = qn_dataset_digits(&ds, 8, 1, err);
    return status ? status : use(ds, err);
}

static qn_status run_csv(qn_error *err)
{
    static const char text[] = "c,x,y\na,1,no\nb,,yes\na,3,no\nc,4,yes\n";
    const char *category = "c", *number = "x";
    const qn_csv_options o = { .label = "y",
                               .categorical = &category,
                               .n_categorical = 1,
                               .numeric = &number,
                               .n_numeric = 1,
                               .missing = QN_MISSING_MEDIAN,
                               .standardise = true };
    qn_dataset *ds;
    qn_status status = qn__csv_parse(&ds, text, sizeof text - 1, "d.csv", &o, err);
    return status ? status : use(ds, err);
}

static qn_status run_idx(qn_error *err)
{
    qn_array a;
    qn_status status = qn_idx_read(&a, workdir_path("i16.idx"), err);
    qn_array_free(&a);
    return status;
}

static qn_status run_npy(qn_error *err)
{
    qn_dataset *ds;
    qn_status status = qn_dataset_from_npy(&ds, workdir_path("x.npy"), workdir_path("x.npy"), NULL, err);
    return status ? status : use(ds, err);
}

static qn_status run_folder(qn_error *err)
{
    qn_dataset *ds;
    const qn_dataset_options o = { .png = { .channels = 3, .height = 3, .width = 3 } };
    qn_status status = qn_dataset_from_folder(&ds, workdir_path("set"), &o, err);
    return status ? status : use(ds, err);
}

static qn_status run_png_write(qn_error *err)
{
    return qn_png_write(workdir_path("w.png"), (const uint8_t *)"abcd", 2, 2, 1, err);
}

static void write_files(void)
{
    float v[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    const qn_array a = { .dtype = QN_F32, .rank = 2, .dim = { 4, 2 }, .data = v, .bytes = sizeof v };
    workdir_write("i16.idx", "\0\0\13\1\0\0\0\2\1\2\3\4", 12);
    assert_int_equal(qn_npy_write(workdir_path("x.npy"), &a, NULL), QN_OK);
    mkdir(workdir_path("set"), 0700);
    mkdir(workdir_path("set/a"), 0700);
    assert_int_equal(qn_png_write(workdir_path("set/a/1.png"), (const uint8_t *)"a", 1, 1, 1, NULL), QN_OK);
    assert_int_equal(qn_png_write(workdir_path("set/a/2.png"), (const uint8_t *)"b", 1, 1, 1, NULL), QN_OK);
}

static void every_allocation_fails(void **state)
{
    (void)state;
    static qn_status (*const scenarios[])(qn_error *) = { run_digits, run_csv,    run_idx,
                                                          run_npy,    run_folder, run_png_write };
    write_files();
    if (!OWN_ALLOCATOR) print_message("a sanitizer owns the allocator: no call is made to fail\n");
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        qn_error err = { 0 };
        if (scenarios[i](&err)) fail_msg("scenario %zu: %s", i, err.text);
        for (int64_t k = 0; OWN_ALLOCATOR && k < 2000; k++) {
            for_ever = k % 2;
            err = (qn_error){ 0 };
            int64_t before = live;
            fail_at = k / 2;
            qn_status status = scenarios[i](&err);
            bool reached = for_ever ? fail_at == 0 : fail_at < 0;
            fail_at = -1;
            if (live != before)
                fail_msg("scenario %zu, call %lld: %lld blocks lost", i, (long long)k / 2, (long long)(live - before));
            if (!reached) {
                assert_int_equal(status, QN_OK);
                assert_true(k / 2 > 1); /* some were made to fail */
                print_message("scenario %zu: %lld allocations\n", i, (long long)k / 2);
                break;
            }
            if (status != QN_EMEMORY)
                fail_msg("scenario %zu, call %lld: status %d: %s", i, (long long)k / 2, status, err.text);
            assert_int_equal(err.code, 5002);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_allocate_nothing),
        cmocka_unit_test(every_allocation_fails),
    };
    return cmocka_run_group_tests(tests, workdir_begin, workdir_end);
}
