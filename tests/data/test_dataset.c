/* test_dataset.c - data sets from IDX, npy, folders and the generator; labels, statistics, bad
 * samples, splits. */
#include "aid.h"
#include <math.h>

#define REAL "/usr/share/datasets/fashion-mnist/"

static void be32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* n images of 2x2 whose pixels are 4 i + k, and their labels. */
static void write_idx(const char *images, const char *labels, int n, const uint8_t *label)
{
    uint8_t b[4096] = { 0, 0, 8, 3 };
    be32(b + 4, (uint32_t)n);
    be32(b + 8, 2);
    be32(b + 12, 2);
    for (int i = 0; i < 4 * n; i++) b[16 + i] = (uint8_t)i;
    workdir_write(images, b, (size_t)(16 + 4 * n));
    b[3] = 1;
    memcpy(b + 8, label, (size_t)n);
    workdir_write(labels, b, (size_t)(8 + n));
}

static void near(double a, double b)
{
    if (fabs(a - b) > 1e-6 * (1 + fabs(b))) fail_msg("%.9g is not %.9g", a, b);
}

static void idx_and_statistics(void **state)
{
    (void)state;
    qn_dataset *ds;
    qn_error err = { 0 };
    float x[4];
    int64_t two = 1;
    write_idx("i", "l", 3, (const uint8_t *)"\2\0\1");
    assert_int_equal(qn_dataset_from_idx(&ds, workdir_path("i"), workdir_path("l"), NULL, &err), QN_OK);
    const qn_transform *t = qn_dataset_transform(ds);
    assert_int_equal(t->rank, 3);
    assert_int_equal(t->dim[0], 1);
    assert_int_equal(t->n_classes, 3);
    assert_string_equal(t->class_name[2], "2");
    assert_int_equal(qn_dataset_label(ds, 0), 2);
    assert_int_equal(qn_dataset_label(ds, 3), -1);
    assert_int_equal(qn_dataset_read(ds, 1, x, &err), QN_OK);
    near((double)x[3], 7 / 255.0);
    assert_int_equal(qn_dataset_fit(ds, &(qn_indices){ &two, 1 }, &err), QN_OK); /* pixels 4 5 6 7 */
    t = qn_dataset_transform(ds);
    near(t->mean[0], 5.5 / 255);
    near(t->std[0], sqrt(1.25) / 255);
    assert_int_equal(qn_dataset_read(ds, 1, x, &err), QN_OK);
    near((double)x[3], 1.5 / sqrt(1.25));
    /* what a checkpoint carries gives one picture the same floats */
    qn_array image = { .dtype = QN_U8, .rank = 3, .dim = { 1, 2, 2 }, .data = (uint8_t[]){ 4, 5, 6, 7 }, .bytes = 4 };
    char *json;
    qn_transform back;
    float y[4];
    assert_int_equal(qn_transform_to_json(&json, t, &err), QN_OK);
    assert_int_equal(qn_transform_from_json(&back, json, &err), QN_OK);
    assert_int_equal(qn_transform_image(&back, &image, y, &err), QN_OK);
    assert_memory_equal(x, y, sizeof x);
    image.dim[2] = 1;
    assert_int_equal(qn_transform_image(&back, &image, y, &err), QN_EDATA);
    aid_error(&err, "error E3014 data: image: rank 3 U8 [1,2,1]; expected U8 [1,2,2]");
    qn_dataset *test;
    assert_int_equal(qn_dataset_from_idx(&test, workdir_path("i"), workdir_path("l"), NULL, &err), QN_OK);
    assert_int_equal(qn_dataset_set_transform(test, &back, &err), QN_OK);
    assert_int_equal(qn_dataset_read(test, 1, y, &err), QN_OK);
    assert_memory_equal(x, y, sizeof x);
    qn_dataset_free(test);
    qn_transform_free(&back);
    free(json);
    qn_dataset_free(ds);
}

/* Fault row C5, to the letter: sample 5993 of a file with an 8-byte header. */
static void label_out_of_range(void **state)
{
    (void)state;
    enum { N = 6000 };
    uint8_t *b = calloc(16 + N, 1);
    qn_dataset *ds;
    qn_error err = { 0 };
    assert_non_null(b);
    memcpy(b, "\0\0\10\3", 4);
    be32(b + 4, N);
    be32(b + 8, 1);
    be32(b + 12, 1);
    workdir_write("images.idx", b, 16 + N);
    b[3] = 1;
    memset(b + 8, 0, N);
    b[8 + 5993] = 12;
    workdir_write("labels.idx", b, 8 + N);
    free(b);
    qn_dataset_options o = { .n_classes = 10 };
    assert_int_equal(qn_dataset_from_idx(&ds, workdir_path("images.idx"), workdir_path("labels.idx"), &o, &err),
                     QN_EDATA);
    aid_error(&err, "error E3041 data: labels.idx@6001: sample 5993: label 12; expected 0..9");
    o.on_bad = QN_BAD_SKIP;
    assert_int_equal(qn_dataset_from_idx(&ds, workdir_path("images.idx"), workdir_path("labels.idx"), &o, &err), QN_OK);
    int64_t sample;
    assert_int_equal(qn_dataset_bad_count(ds), 1);
    aid_error(qn_dataset_bad(ds, 0, &sample),
              "error E3041 data: labels.idx@6001: sample 5993: label 12; expected 0..9");
    assert_int_equal(sample, 5993);
    assert_int_equal(qn_dataset_check(ds, NULL, NULL), 1);
    qn_dataset_free(ds);
}

static void every_bad_label(void **state)
{
    (void)state;
    static const int64_t bad[] = { -1, 3, INT64_MIN, INT64_MAX, (int64_t)1 << 32 };
    qn_array x = { .dtype = QN_U8, .rank = 2, .dim = { 2, 1 }, .data = (uint8_t[]){ 1, 2 }, .bytes = 2 };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t y[2] = { 0, bad[i] };
        qn_array labels = { .dtype = QN_I64, .rank = 1, .dim = { 2 }, .data = y, .bytes = 16 };
        qn_dataset *ds;
        qn_error err = { 0 };
        char line[128];
        assert_int_equal(qn_dataset_from_arrays(&ds, &x, &labels, "mem", &(qn_dataset_options){ .n_classes = 3 }, &err),
                         QN_EDATA);
        snprintf(line, sizeof line, "error E3041 data: mem: sample 1: label %lld; expected 0..2", (long long)bad[i]);
        aid_error(&err, line);
    }
}

static void counts_and_kinds_must_fit(void **state)
{
    (void)state;
    qn_dataset *ds;
    qn_error err = { 0 };
    write_idx("i3", "l3", 3, (const uint8_t *)"\0\0\0");
    write_idx("i2", "l2", 2, (const uint8_t *)"\0\0");
    assert_int_equal(qn_dataset_from_idx(&ds, workdir_path("i3"), workdir_path("l2"), NULL, &err), QN_EDATA);
    assert_int_equal(err.code, 3022);
    assert_non_null(strstr(err.text, "2 labels; expected 3, the samples of"));
    assert_int_equal(qn_dataset_from_idx(&ds, workdir_path("l3"), workdir_path("l3"), NULL, &err), QN_EDATA);
    aid_error(&err, "error E3023 data: l3: rank 1; expected samples [N,F], [N,H,W] or [N,C,H,W]");
    assert_int_equal(qn_dataset_from_idx(&ds, workdir_path("i3"), workdir_path("i3"), NULL, &err), QN_EDATA);
    aid_error(&err, "error E3023 data: i3: rank 3 of U8; expected integer labels of rank 1 or float targets of rank 1 "
                    "or 2");
    workdir_write("none", "\0\0\10\3\0\0\0\0\0\0\0\2\0\0\0\2", 16);
    assert_int_equal(qn_dataset_from_idx(&ds, workdir_path("none"), NULL, NULL, &err), QN_EDATA);
    aid_error(&err, "error E3054 data: none: 0 samples of 4 values; expected at least 1 of 1");
    assert_int_equal(qn_dataset_from_idx(&ds, workdir_path("i3"), NULL, &(qn_dataset_options){ .memory_limit = 11 },
                                         &err),
                     QN_EMEMORY);
    aid_error(&err, "error E5001 memory: i3: needs 12 bytes; data set may have 11");
    const char *name = "x";
    assert_int_equal(qn_dataset_from_idx(&ds, workdir_path("i3"), NULL, &(qn_dataset_options){ .class_names = &name },
                                         &err),
                     QN_EUSAGE);
    aid_error(&err, "error E2301 config: n_classes: 0; expected 1..1000000");
}

/* Fault row C4: planted values are named by sample, element, flat index and count. */
static void values_must_be_finite(void **state)
{
    (void)state;
    float v[6] = { 1, 2, 3, 4, NAN, INFINITY };
    double target[3] = { 1, 1e300, 0 };
    qn_array a = { .dtype = QN_F32, .rank = 2, .dim = { 2, 3 }, .data = v, .bytes = sizeof v };
    qn_array y = { .dtype = QN_F64, .rank = 1, .dim = { 3 }, .data = target, .bytes = sizeof target };
    qn_dataset *ds;
    qn_error err = { 0 };
    assert_int_equal(qn_npy_write(workdir_path("x.npy"), &a, &err), QN_OK);
    assert_int_equal(qn_npy_write(workdir_path("y.npy"), &y, &err), QN_OK);
    assert_int_equal(qn_dataset_from_npy(&ds, workdir_path("x.npy"), NULL, NULL, &err), QN_EDATA);
    aid_error(&err, "error E3043 data: x.npy: sample 1, element 1: nan at flat index 4, 2 such values; expected finite "
                    "numbers");
    v[4] = v[5] = 0;
    a.dim[0] = 3;
    a.dim[1] = 2;
    assert_int_equal(qn_npy_write(workdir_path("x.npy"), &a, &err), QN_OK);
    assert_int_equal(qn_dataset_from_npy(&ds, workdir_path("x.npy"), workdir_path("y.npy"), NULL, &err), QN_EDATA);
    aid_error(&err, "error E3043 data: y.npy: sample 1, element 0: inf at flat index 1, 1 such values; expected finite "
                    "numbers");
    target[1] = -7;
    assert_int_equal(qn_npy_write(workdir_path("y.npy"), &y, &err), QN_OK);
    assert_int_equal(qn_dataset_from_npy(&ds, workdir_path("x.npy"), workdir_path("y.npy"), NULL, &err), QN_OK);
    assert_true(*qn_dataset_target(ds, 1) == -7);
    assert_int_equal(qn_dataset_transform(ds)->n_targets, 1);
    qn_dataset_free(ds);
}

/* ---- folders ------------------------------------------------------------------------------ */

static const char *make_folder(void)
{
    const uint8_t a[4] = { 1, 2, 3, 4 }, b[4] = { 5, 6, 7, 8 };
    const char *root = workdir_path("pets");
    qn_error err = { 0 };
    workdir_remove(root);
    mkdir(root, 0700);
    mkdir(workdir_path("pets/dogs"), 0700);
    mkdir(workdir_path("pets/cats"), 0700);
    mkdir(workdir_path("pets/.hidden"), 0700);
    assert_int_equal(qn_png_write(workdir_path("pets/cats/2.png"), b, 2, 2, 1, &err), QN_OK);
    assert_int_equal(qn_png_write(workdir_path("pets/cats/10.PNG"), a, 2, 2, 1, &err), QN_OK);
    assert_int_equal(qn_png_write(workdir_path("pets/dogs/1.png"), b, 2, 2, 1, &err), QN_OK);
    workdir_write("pets/cats/notes.txt", "x", 1);
    workdir_write("pets/README", "x", 1);
    return root;
}

static void folder_of_classes(void **state)
{
    (void)state;
    qn_dataset *ds;
    qn_error err = { 0 };
    float x[4];
    char name[256];
    const char *root = make_folder();
    for (int kept = 0; kept < 2; kept++) {
        const qn_dataset_options o = { .memory_limit = kept ? 0 : 1 };
        assert_int_equal(qn_dataset_from_folder(&ds, root, &o, &err), QN_OK);
        assert_int_equal(qn_dataset_count(ds), 3);
        assert_int_equal(qn_dataset_ignored(ds), 2);
        assert_int_equal(qn_dataset_bytes(ds), kept ? 12 : 0);
        assert_string_equal(qn_dataset_transform(ds)->class_name[0], "cats");
        assert_int_equal(qn_dataset_label(ds, 1), 0);
        assert_int_equal(qn_dataset_label(ds, 2), 1);
        assert_non_null(strstr(qn_dataset_sample_name(ds, 0, name, sizeof name), "pets/cats/10.PNG"));
        for (int again = 0; again < 2; again++) {
            assert_int_equal(qn_dataset_read(ds, 0, x, &err), QN_OK);
            near((double)x[2], 3 / 255.0);
        }
        assert_int_equal(qn_dataset_check(ds, NULL, NULL), 0);
        qn_dataset_free(ds);
    }
    const qn_dataset_options sized = { .png = { .channels = 3, .height = 4, .width = 6 } };
    assert_int_equal(qn_dataset_from_folder(&ds, root, &sized, &err), QN_OK);
    assert_int_equal(qn_transform_size(qn_dataset_transform(ds)), 72);
    qn_dataset_free(ds);
}

static int reported;
static void count_reports(void *user, int64_t sample, const qn_error *err)
{
    (void)user;
    (void)sample;
    reported++;
    assert_int_equal(err->code / 1000, 3);
}

static void folder_faults(void **state)
{
    (void)state;
    qn_dataset *ds;
    qn_error err = { 0 };
    float x[4];
    const char *root = make_folder();
    const uint8_t big[6] = { 0 };
    workdir_write("pets/cats/2.png", "not a png", 9);
    assert_int_equal(qn_png_write(workdir_path("pets/dogs/1.png"), big, 3, 2, 1, &err), QN_OK);
    assert_int_equal(qn_dataset_from_folder(&ds, root, NULL, &err), QN_OK); /* files are decoded when needed */
    assert_int_equal(qn_dataset_read(ds, 1, x, &err), QN_EDATA);
    aid_error(&err, "error E3012 data: pets/cats/2.png@0: signature: not a PNG file; expected 89 \"PNG\" 0d 0a 1a 0a");
    assert_int_equal(qn_dataset_read(ds, 2, x, &err), QN_EDATA);
    aid_error(&err, "error E3014 data: pets/dogs/1.png: 1 x 2 x 3 (channels, height, width); expected 1 x 2 x 2 as in "
                    "the first file");
    reported = 0;
    assert_int_equal(qn_dataset_check(ds, count_reports, NULL), 2);
    assert_int_equal(reported, 2);
    qn_dataset_free(ds);
    mkdir(workdir_path("pets/empty"), 0700);
    assert_int_equal(qn_dataset_from_folder(&ds, root, NULL, &err), QN_EDATA);
    aid_error(&err, "error E3015 data: pets: class empty: no .png file; expected at least 1");
    assert_int_equal(qn_dataset_from_folder(&ds, workdir_path("pets/empty"), NULL, &err), QN_EDATA);
    aid_error(&err, "error E3015 data: pets/empty: 0 subdirectories; expected one per class");
    assert_int_equal(qn_dataset_from_folder(&ds, workdir_path("nowhere"), NULL, &err), QN_EIO);
    assert_int_equal(err.code, 6001);
}

/* ---- splits ------------------------------------------------------------------------------- */

static void permutations_are_permutations(void **state)
{
    (void)state;
    for (int64_t n = 1; n < 300; n += n < 20 ? 1 : 37) {
        for (uint64_t key = 0; key < 5; key++) {
            bool seen[300] = { 0 };
            for (int64_t i = 0; i < n; i++) {
                int64_t at = qn__permute(key, i, n);
                assert_in_range(at, 0, n - 1);
                assert_false(seen[at]);
                seen[at] = true;
            }
        }
    }
    /* Uniform: of 6000 keys, each of the 6 orders of 3 things should appear about 1000 times;
     * the chi-square statistic with 5 degrees of freedom exceeds 25.7 with probability 1e-4. The
     * keys are fixed. */
    int count[27] = { 0 };
    double chi = 0;
    for (uint64_t key = 0; key < 6000; key++)
        count[qn__permute(key, 0, 3) * 9 + qn__permute(key, 1, 3) * 3 + qn__permute(key, 2, 3)]++;
    for (int i = 0; i < 27; i++)
        if (count[i]) chi += (count[i] - 1000.0) * (count[i] - 1000.0) / 1000;
    assert_true(chi < 25.7);
}

static int64_t count_label(const qn_dataset *ds, const qn_indices *in, int label)
{
    int64_t n = 0;
    for (int64_t i = 0; i < in->n; i++) n += qn_dataset_label(ds, in->at[i]) == label;
    return n;
}

static void splits_cover_and_stratify(void **state)
{
    (void)state;
    enum { N = 103 };
    qn_dataset *ds;
    qn_indices a, b, c, d;
    qn_error err = { 0 };
    assert_int_equal(qn_dataset_digits(&ds, N, 1, &err), QN_OK);
    assert_int_equal(qn_split_fraction(&a, &b, ds, NULL, 0.2, 5, true, &err), QN_OK);
    assert_int_equal(b.n, 21);
    assert_int_equal(a.n, 82);
    for (int label = 0; label < 10; label++) {
        double share = 0.2 * (double)(count_label(ds, &a, label) + count_label(ds, &b, label));
        assert_true(fabs((double)count_label(ds, &b, label) - share) < 1.01);
    }
    assert_int_equal(qn_split_fraction(&c, &d, ds, NULL, 0.2, 5, true, &err), QN_OK);
    assert_memory_equal(b.at, d.at, (size_t)b.n * sizeof *b.at);
    qn_indices_free(&c);
    qn_indices_free(&d);
    assert_int_equal(qn_split_fraction(&c, &d, ds, NULL, 0.2, 6, false, &err), QN_OK);
    assert_memory_not_equal(b.at, d.at, (size_t)b.n * sizeof *b.at);
    qn_indices_free(&c);
    qn_indices_free(&d);
    assert_int_equal(qn_split_fraction(&c, &d, ds, &a, 0.5, 6, false, &err), QN_OK); /* a split of a split */
    assert_int_equal(c.n + d.n, a.n);
    qn_indices_free(&a);
    qn_indices_free(&b);
    qn_indices_free(&c);
    qn_indices_free(&d);
    int seen[N] = { 0 };
    for (int fold = 0; fold < 5; fold++) {
        assert_int_equal(qn_split_fold(&a, &b, ds, NULL, 5, fold, 9, true, &err), QN_OK);
        assert_int_equal(a.n + b.n, N);
        assert_in_range(b.n, N / 5, N / 5 + 1);
        for (int label = 0; label < 10; label++) assert_in_range(count_label(ds, &b, label), 2, 3);
        for (int64_t i = 0; i < b.n; i++) seen[b.at[i]]++;
        qn_indices_free(&a);
        qn_indices_free(&b);
    }
    for (int i = 0; i < N; i++) assert_int_equal(seen[i], 1);
    assert_int_equal(qn_split_fraction(&a, &b, ds, NULL, 0.001, 5, false, &err), QN_EDATA);
    aid_error(&err, "error E3054 data: drawn digits: split: 103 and 0 samples; expected at least 1 each");
    assert_int_equal(qn_split_fraction(&a, &b, ds, NULL, (double)NAN, 5, false, &err), QN_EUSAGE);
    assert_int_equal(qn_split_fold(&a, &b, ds, NULL, 104, 0, 5, false, &err), QN_EUSAGE);
    aid_error(&err, "error E2301 config: folds: 104; expected 2..103");
    assert_int_equal(qn_split_fold(&a, &b, ds, NULL, 2, 2, 5, false, &err), QN_EUSAGE);
    aid_error(&err, "error E2301 config: fold: 2; expected 0..1");
    qn_dataset_free(ds);
}

/* ---- real and drawn images ---------------------------------------------------------------- */

static void digits_can_be_told_apart(void **state)
{
    (void)state;
    enum { TRAIN = 1000, TEST = 200, SIZE = 784 };
    qn_dataset *ds, *more;
    qn_error err = { 0 };
    static float mean[10][SIZE], x[SIZE], y[SIZE];
    assert_int_equal(qn_dataset_digits(&ds, TRAIN, 3, &err), QN_OK);
    assert_int_equal(qn_dataset_digits(&more, TRAIN + TEST, 3, &err), QN_OK);
    for (int64_t i = 0; i < TRAIN; i++) {
        assert_int_equal(qn_dataset_read(ds, i, x, &err), QN_OK);
        assert_int_equal(qn_dataset_read(more, i, y, &err), QN_OK);
        assert_memory_equal(x, y, sizeof x); /* a larger set begins with the smaller one */
        for (int k = 0; k < SIZE; k++) mean[i % 10][k] += x[k] / (TRAIN / 10);
    }
    int right = 0;
    for (int64_t i = TRAIN; i < TRAIN + TEST; i++) {
        int best = 0;
        double least = 1e30;
        assert_int_equal(qn_dataset_read(more, i, x, &err), QN_OK);
        for (int c = 0; c < 10; c++) {
            double d = 0;
            for (int k = 0; k < SIZE; k++) d += (double)((x[k] - mean[c][k]) * (x[k] - mean[c][k]));
            if (d < least) least = d, best = c;
        }
        right += best == qn_dataset_label(more, i);
    }
    print_message("nearest mean of class: %d of %d drawn digits\n", right, TEST);
    assert_in_range(right, TEST * 60 / 100, TEST); /* learnable, and not trivial */
    qn_dataset_free(ds);
    qn_dataset_free(more);
}

static void fashion_mnist(void **state)
{
    (void)state;
    qn_dataset *ds;
    qn_error err = { 0 };
    if (access(REAL "t10k-images-idx3-ubyte.gz", R_OK) != 0) {
        print_message("dataset-fashion-mnist is not installed: the generated IDX files above stand in\n");
        return;
    }
    assert_int_equal(qn_dataset_from_idx(&ds, REAL "t10k-images-idx3-ubyte.gz", REAL "t10k-labels-idx1-ubyte.gz",
                                         &(qn_dataset_options){ .n_classes = 10 }, &err),
                     QN_OK);
    assert_int_equal(qn_dataset_count(ds), 10000);
    for (int label = 0; label < 10; label++) { /* the set is balanced */
        int64_t n = 0;
        for (int64_t i = 0; i < 10000; i++) n += qn_dataset_label(ds, i) == label;
        assert_int_equal(n, 1000);
    }
    assert_int_equal(qn_dataset_fit(ds, NULL, &err), QN_OK);
    near(qn_dataset_transform(ds)->dim[2], 28);
    assert_true(qn_dataset_transform(ds)->mean[0] > 0.28 && qn_dataset_transform(ds)->mean[0] < 0.29);
    qn_dataset_free(ds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idx_and_statistics),
        cmocka_unit_test(label_out_of_range),
        cmocka_unit_test(every_bad_label),
        cmocka_unit_test(counts_and_kinds_must_fit),
        cmocka_unit_test(values_must_be_finite),
        cmocka_unit_test(folder_of_classes),
        cmocka_unit_test(folder_faults),
        cmocka_unit_test(permutations_are_permutations),
        cmocka_unit_test(splits_cover_and_stratify),
        cmocka_unit_test(digits_can_be_told_apart),
        cmocka_unit_test(fashion_mnist),
    };
    return cmocka_run_group_tests(tests, workdir_begin, workdir_end);
}
