/* The shape of a sample from the headers of files alone: the same as when the data set is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "../../include/quern/train.h"
#include "../lib/workdir.h"

/* Recipes name files; from here on they lie in a directory of the test's own. */
static int begin(void **state) { return workdir_begin(state) || chdir(workdir) ? -1 : 0; }

/* Recipes with this "data"; compares with what reading gives. */
static void same_as_read(const char *data, int rank, int64_t c, int64_t h, int64_t w, int classes, int targets)
{
    char text[512];
    qn_recipe_errors errs;
    qn_recipe *r;
    qn_transform shape;
    qn_parts parts;
    qn_error err = { 0 };
    snprintf(text, sizeof text,
             "{ \"quern\": 1, \"name\": \"t\", \"data\": %s, \"model\": [{ \"linear\": 3 }], \"loss\": \"%s\" }", data,
             targets ? "mse" : "cross_entropy");
    if (qn_recipe_parse(&r, "t.json", text, strlen(text), NULL, 0, &errs)) fail_msg("%s", errs.list[0].text);
    if (qn_data_shape(r, &shape, &err)) fail_msg("%s", err.text);
    if (qn_parts_open(&parts, r, &err)) fail_msg("%s", err.text);
    const qn_transform *t = qn_dataset_transform(parts.train_set);
    assert_int_equal(shape.rank, rank);
    assert_int_equal(shape.dim[0], c);
    if (rank == 3) assert_int_equal(shape.dim[1], h);
    if (rank == 3) assert_int_equal(shape.dim[2], w);
    assert_int_equal(shape.n_classes, classes);
    assert_int_equal(shape.n_targets, targets);
    assert_int_equal(t->rank, rank);
    assert_memory_equal(t->dim, shape.dim, (size_t)rank * sizeof t->dim[0]);
    assert_int_equal(t->n_classes, classes);
    assert_int_equal(t->n_targets, targets);
    qn_parts_free(&parts);
    qn_transform_free(&shape);
    qn_recipe_free(r);
}

static void put(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(name, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void idx_files(void **state)
{
    static const unsigned char head[] = { 0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6 };
    static const unsigned char labels[] = { 0, 0, 8, 1, 0, 0, 0, 4, 0, 2, 6, 1 };
    unsigned char images[sizeof head + 4 * 5 * 6] = { 0 };
    (void)state;
    memcpy(images, head, sizeof head);
    for (size_t i = sizeof head; i < sizeof images; i++) images[i] = (unsigned char)i;
    put("x.idx", images, sizeof images);
    put("y.idx", labels, sizeof labels);
    same_as_read("{ \"idx\": { \"images\": \"x.idx\", \"labels\": \"y.idx\" } }", 3, 1, 5, 6, 7, 0);
}

static void npy_files(void **state)
{
    float x[4 * 3] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 }, y[4 * 2] = { 0, 1, 2, 3, 4, 5, 6, 7 };
    qn_array a = { .dtype = QN_F32, .rank = 2, .dim = { 4, 3 }, .data = x, .bytes = sizeof x };
    qn_array b = { .dtype = QN_F32, .rank = 2, .dim = { 4, 2 }, .data = y, .bytes = sizeof y };
    (void)state;
    assert_int_equal(qn_npy_write("x.npy", &a, NULL), QN_OK);
    assert_int_equal(qn_npy_write("y.npy", &b, NULL), QN_OK);
    same_as_read("{ \"npy\": { \"images\": \"x.npy\", \"labels\": \"y.npy\" }, \"regression\": true }", 1, 3, 0, 0, 0,
                 2);
}

static void folders(void **state)
{
    static const char *const files[] = { "p/b/1.png", "p/a/2.png", "p/c/1.png" };
    const uint8_t pixels[7 * 5 * 3] = { 1, 2, 3 };
    (void)state;
    assert_int_equal(mkdir("p", 0777) | mkdir("p/a", 0777) | mkdir("p/b", 0777) | mkdir("p/c", 0777), 0);
    for (int i = 0; i < 3; i++) assert_int_equal(qn_png_write(files[i], pixels, 7, 5, 3, NULL), QN_OK);
    same_as_read("{ \"png\": \"p\" }", 3, 3, 5, 7, 3, 0);
}

static void drawn(void **state)
{
    (void)state;
    same_as_read("{ \"digits\": 20 }", 3, 1, 28, 28, 10, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(idx_files), cmocka_unit_test(npy_files),
                                        cmocka_unit_test(folders), cmocka_unit_test(drawn) };
    return cmocka_run_group_tests(tests, begin, workdir_end);
}
