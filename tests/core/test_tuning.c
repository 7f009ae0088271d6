/* test_tuning.c - the lock file of a tuning: what is written is read, and whatever else stands there is one line with
 * its place. */
#include "../../core/tuning.h"
#include "../../core/file.h"
#include "../lib/workdir.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define HEAD "quern-tuning\t1\ngpu\tSome GPU\ndriver\t13000\ncuda\t13000\ncublaslt\t130100\ncudnn\t91900\n"
#define ROW "choice\tmatmul F32 m 1\talgo 0\t256\t1.5\n"
#define ROW_2 "choice\tmatmul F32 m 2\talgo 1\t0\t2\n"
#define GOOD HEAD ROW ROW_2 "end\t2\n"

static char path[4200];

static int begin(void **state)
{
    int failed = workdir_begin_in_memory(state);
    snprintf(path, sizeof path, "%s/tuning.lock", workdir);
    return failed;
}

static qn_status load(qn_tuning **t, const char *text, size_t n, qn_error *err)
{
    workdir_write("tuning.lock", text, n);
    return qn_tuning_load(t, path, err);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    qn_tuning *t;
    qn_error err = { 0 };
    if (load(&t, GOOD, strlen(GOOD), &err)) fail_msg("%s", err.text);
    assert_int_equal(qn_tuning_count(t), 2);
    assert_string_equal(qn_tuning_of(t), "Some GPU; driver 13000; CUDA 13000; cuBLASLt 130100; cuDNN 91900");
    qn_tuning_choice c = qn_tuning_at(t, 0);
    assert_string_equal(c.what, "matmul F32 m 1");
    assert_string_equal(c.algorithm, "algo 0");
    assert_int_equal(c.workspace, 256);
    assert_true(c.seconds == 1.5 / 1e6);
    assert_string_equal(qn_tuning_at(t, 2).what, "");
    assert_ptr_equal(qn__tuning_find(t, "matmul F32 m 2"), &t->at[1]);
    assert_null(qn__tuning_find(t, "matmul F32 m 3"));
    assert_int_equal(qn_tuning_save(t, path, &err), QN_OK);
    qn_tuning_free(t);
    char *text;
    size_t n;
    assert_int_equal(qn__file_read_all(&qn__std_alloc, path, 1 << 20, &text, &n, &err), QN_OK);
    assert_string_equal(text, GOOD);
    qn__free(&qn__std_alloc, text, n + 1);
}

static void order_is_kept(void **state)
{
    (void)state;
    const struct qn__identity of = { .gpu = "x" };
    qn_tuning *t;
    qn_error err = { 0 };
    assert_int_equal(qn__tuning_new(&t, &of, &err), QN_OK);
    for (int i = 0; i < 100; i++) {
        struct qn__tuned row = { .tried = 1 };
        snprintf(row.what, sizeof row.what, "w%02d", i * 37 % 100);
        assert_int_equal(qn__tuning_add(t, &row, &err), QN_OK);
        assert_int_equal(qn__tuning_add(t, &row, &err), QN_EINTERNAL);
        assert_int_equal(err.code, 7070);
    }
    for (int i = 0; i < 100; i++) {
        char name[8];
        snprintf(name, sizeof name, "w%02d", i);
        assert_string_equal(qn_tuning_at(t, i).what, name);
    }
    qn_tuning_free(t);
}

static void mistakes_are_told_with_their_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } rows[] = {
        { "", ":1:1: file ends; expected a line that ends in a newline" },
        { "quern-tuning\t1", ":1:1: file ends; expected a line that ends in a newline" },
        { "{}\n", ":1:1: \"{}\"; expected quern-tuning" },
        { "quern-tuning\t2\n", ":1:14: version: \"2\"; expected 1, which this Quern reads" },
        { "quern-tuning\t-1\n", ":1:14: version: \"-1\"; expected a whole number, 0..2147483647" },
        { "quern-tuning\t1\t1\n", ":1:1: quern-tuning: 3 fields; expected 2" },
        { "quern-tuning\t1\ngpu\t\n", ":2:5: gpu: \"\"; expected 1..127 characters" },
        { "quern-tuning\t1\ngpu\tx\ncuda\t1\n", ":3:1: \"cuda\"; expected driver" },
        { "quern-tuning\t1\ngpu\tx\ndriver\t1e3\n", ":3:8: driver: \"1e3\"; expected a whole number, 0..2147483647" },
        { HEAD "choice\tw\ta\t1\n", ":7:1: choice: 4 fields; expected 5" },
        { HEAD "choice\tw\ta\t1\t1\t1\n", ":7:16: more than 5 fields; expected tabs between fields only" },
        { HEAD "choice\t\ta\t1\t1\n", ":7:8: what: \"\"; expected 1..319 characters" },
        { HEAD "choice\tw\t\t1\t1\n", ":7:10: algorithm: \"\"; expected 1..111 characters" },
        { HEAD "choice\tw\ta\t-1\t1\n", ":7:12: workspace: \"-1\"; expected a whole number, 0..1099511627776" },
        { HEAD "choice\tw\ta\t9999999999999999999999\t1\n",
          ":7:12: workspace: \"9999999999999999999999\"; expected a whole number, 0..1099511627776" },
        { HEAD "choice\tw\ta\t1\tnan\n", ":7:14: microseconds: \"nan\"; expected a number, 0..1e12" },
        { HEAD "choice\tw\ta\t1\t-0.5\n", ":7:14: microseconds: \"-0.5\"; expected a number, 0..1e12" },
        { HEAD ROW ROW "end\t2\n", ":8:8: what: \"matmul F32 m 1\"; expected one after that of the line before" },
        { HEAD ROW_2 ROW "end\t2\n", ":8:8: what: \"matmul F32 m 1\"; expected one after that of the line before" },
        { HEAD "chose\tw\ta\t1\t1\n", ":7:1: \"chose\"; expected choice or end" },
        { HEAD ROW, ":8:1: file ends; expected a line that ends in a newline" },
        { HEAD ROW "end\n", ":8:1: end: 1 fields; expected 2" },
        { HEAD ROW "end\t2\n", ":8:5: end: \"2\"; expected the number of choices above" },
        { GOOD "x", ":10:1: 1 bytes after the end; expected none" },
        { HEAD "choice\tw\x01\ta\t1\t1\n", ":7:9: byte 0x01; expected printable ASCII and tabs" },
        { HEAD "choice\tw\xc3\xa9\ta\t1\t1\n", ":7:9: byte 0xc3; expected printable ASCII and tabs" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        qn_tuning *t;
        qn_error err = { 0 };
        char expected[6000];
        snprintf(expected, sizeof expected, "error E4051 tuning: %s%s", path, rows[i].error);
        qn_status status = load(&t, rows[i].text, strlen(rows[i].text), &err);
        if (!status || t) fail_msg("row %zu is read; expected \"%s\"", i, expected);
        assert_string_equal(err.text, expected);
    }
}

static void every_truncation_and_every_flipped_bit(void **state)
{
    (void)state;
    char text[sizeof GOOD];
    qn_tuning *t;
    qn_error err;
    for (size_t n = 0; n < strlen(GOOD); n++) {
        assert_int_not_equal(load(&t, GOOD, n, &err), QN_OK);
        assert_int_equal(err.code, 4051);
    }
    for (size_t bit = 0; bit < 8 * strlen(GOOD); bit++) {
        memcpy(text, GOOD, sizeof text);
        text[bit / 8] ^= (char)(1 << bit % 8);
        memset(&err, 0, sizeof err);
        if (load(&t, text, strlen(GOOD), &err)) assert_int_equal(err.code, 4051);
        qn_tuning_free(t);
    }
}

static void files_that_are_none(void **state)
{
    (void)state;
    qn_tuning *t;
    qn_error err;
    assert_int_equal(qn_tuning_load(&t, "/nowhere/tuning.lock", &err), QN_EIO);
    assert_int_equal(err.code, 6001);
    assert_int_equal(qn_tuning_load(&t, workdir, &err), QN_EIO);
    size_t n = (4 << 20) + 1;
    char *large = malloc(n);
    assert_non_null(large);
    memset(large, 'x', n);
    assert_int_not_equal(load(&t, large, n, &err), QN_OK);
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(order_is_kept),
        cmocka_unit_test(mistakes_are_told_with_their_place),
        cmocka_unit_test(every_truncation_and_every_flipped_bit),
        cmocka_unit_test(files_that_are_none),
    };
    return cmocka_run_group_tests_name("tuning", tests, begin, workdir_end);
}
