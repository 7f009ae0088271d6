/* test_log.c - the JSONL log: read back with jansson, after crashes, and on a full disk. */
#include "../../train/log.h"
#include "../lib/workdir.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char path[128];

static int make_dir(void **state)
{
    if (workdir_begin(state)) return -1;
    snprintf(path, sizeof path, "%s/log.jsonl", workdir);
    return 0;
}

static qn_logger *reopen(bool append)
{
    qn_logger *log = NULL;
    qn_error err = { 0 };
    assert_int_equal(qn_log_open(&log, path, append, &err), QN_OK);
    return log;
}

static size_t slurp(char *buf, size_t size)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(buf, 1, size - 1, f);
    fclose(f);
    buf[n] = 0;
    return n;
}

static void exact_text(void **state)
{
    (void)state;
    char buf[4096];
    qn_logger *log = reopen(false);
    qn_log_begin(log, "step");
    qn_log_i64(log, "step", INT64_MIN);
    qn_log_f32(log, "lr", 0.1f);
    qn_log_f64(log, "x", 0.1);
    qn_log_f32(log, "loss", NAN);
    qn_log_f64(log, "norm", -INFINITY);
    qn_log_bool(log, "skipped", true);
    qn_log_text(log, "none", NULL);
    qn_log_f64s(log, "f1", (const double[]){ 0.5, (double)NAN, 1 }, 3);
    qn_log_f64s(log, "empty", NULL, 0);
    assert_int_equal(qn_log_end(log, NULL), QN_OK);
    slurp(buf, sizeof buf); /* before closing: the line has left the process */
    assert_string_equal(buf, "{\"event\":\"step\",\"step\":-9223372036854775808,\"lr\":0.1,\"x\":0.1,"
                             "\"loss\":null,\"loss_is\":\"nan\",\"norm\":null,\"norm_is\":\"-inf\","
                             "\"skipped\":true,\"none\":null,\"f1\":[0.5,null,1],\"empty\":[]}\n");
    assert_int_equal(qn_log_close(log, NULL), QN_OK);
    unlink(path);
}

/* Any bytes as text give JSON that parses, and control bytes and quotes come back. */
static void hostile_text(void **state)
{
    (void)state;
    char buf[8192], all[256];
    for (int i = 1; i < 256; i++) all[i - 1] = (char)i;
    all[255] = 0;
    qn_logger *log = reopen(false);
    qn_log_begin(log, "a\"b\\c\n\t\x01\xc3\xa4");
    qn_log_text(log, "all", all);
    qn_log_text(log, "surrogate", "\xed\xa0\x80|\xf0\x9f\x98\x80|\xf5\x80\x80\x80|\xc0\x80");
    qn_log_text(log, "key\"with\nthings", "v");
    assert_int_equal(qn_log_end(log, NULL), QN_OK);
    assert_int_equal(qn_log_close(log, NULL), QN_OK);
    size_t n = slurp(buf, sizeof buf);
    assert_true(n > 0 && strchr(buf, '\n') == buf + n - 1);
    json_error_t why;
    json_t *o = json_loads(buf, JSON_REJECT_DUPLICATES, &why);
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "event")), "a\"b\\c\n\t\x01\xc3\xa4");
    assert_string_equal(json_string_value(json_object_get(o, "key\"with\nthings")), "v");
    const char *s = json_string_value(json_object_get(o, "surrogate"));
    assert_non_null(strstr(s, "|\xf0\x9f\x98\x80|"));
    json_decref(o);
    unlink(path);
}

static void floats_come_back(void **state)
{
    (void)state;
    char buf[4096];
    const float x[6] = { 1.17549435e-38f, 1e-45f, 3.4028235e38f, 1.0f / 3, 16777216.0f, -0.30000001f };
    qn_logger *log = reopen(false);
    for (int i = 0; i < 6; i++) {
        qn_log_begin(log, "e");
        qn_log_f32(log, "x", x[i]);
        qn_log_f64(log, "d", (double)x[i] * 1.1);
        assert_int_equal(qn_log_end(log, NULL), QN_OK);
    }
    assert_int_equal(qn_log_close(log, NULL), QN_OK);
    slurp(buf, sizeof buf);
    char *line = strtok(buf, "\n");
    for (int i = 0; i < 6; i++, line = strtok(NULL, "\n")) {
        json_t *o = json_loads(line, 0, NULL);
        assert_non_null(o);
        assert_true((float)json_number_value(json_object_get(o, "x")) == x[i]);
        assert_true(json_number_value(json_object_get(o, "d")) == (double)x[i] * 1.1);
        json_decref(o);
    }
    unlink(path);
}

static void long_lines_are_cut(void **state)
{
    (void)state;
    static char big[40000], buf[65536];
    memset(big, 'x', sizeof big - 1);
    qn_logger *log = reopen(false);
    qn_log_begin(log, "e");
    qn_log_i64(log, "a", 1);
    qn_log_text(log, "big", big);
    qn_log_i64(log, "b", 2);
    assert_int_equal(qn_log_end(log, NULL), QN_OK);
    qn_log_begin(log, "f");
    assert_int_equal(qn_log_end(log, NULL), QN_OK);
    qn_log_begin(log, "g");
    big[16360] = 0; /* near the limit from the other side */
    qn_log_text(log, "", big);
    assert_int_equal(qn_log_end(log, NULL), QN_OK);
    assert_int_equal(qn_log_close(log, NULL), QN_OK);
    slurp(buf, sizeof buf);
    assert_string_equal(strtok(buf, "\n"), "{\"event\":\"e\",\"a\":1,\"cut\":true}");
    assert_string_equal(strtok(NULL, "\n"), "{\"event\":\"f\"}");
    assert_string_equal(strtok(NULL, "\n"), "{\"event\":\"g\",\"cut\":true}");
    unlink(path);
}

static void append_and_refuse(void **state)
{
    (void)state;
    char buf[256];
    qn_error err = { 0 };
    qn_logger *log = NULL;
    FILE *f = fopen(path, "wb");
    fputs("{\"event\":\"old\"}\n{\"event\":\"ha", f); /* killed in the middle of a line */
    fclose(f);
    assert_int_equal(qn_log_open(&log, path, false, &err), QN_EIO);
    assert_int_equal(err.code, 6002);
    assert_non_null(strstr(err.text, "log.jsonl: exists already; expected a new file"));
    log = reopen(true);
    qn_log_begin(log, "new");
    assert_int_equal(qn_log_end(log, NULL), QN_OK);
    assert_int_equal(qn_log_close(log, NULL), QN_OK);
    slurp(buf, sizeof buf);
    assert_string_equal(buf, "{\"event\":\"old\"}\n{\"event\":\"new\"}\n");
    unlink(path);
    assert_int_equal(qn_log_open(&log, "/nowhere/at/all", false, &err), QN_EIO);
    assert_int_equal(err.code, 6001);
}

/* D13: a full device gives one warning; the rest is counted. */
static void full_device(void **state)
{
    (void)state;
    qn_error err = { 0 };
    qn_logger *log = NULL;
    if (access("/dev/full", W_OK)) skip();
    assert_int_equal(qn_log_open(&log, "/dev/full", true, &err), QN_OK);
    qn_log_begin(log, "e");
    assert_int_equal(qn_log_end(log, &err), QN_EIO);
    assert_string_equal(err.text, "error E6002 io: /dev/full: write: no space left on device; the log loses lines, "
                                  "training goes on");
    for (int i = 0; i < 3; i++) {
        qn_log_begin(log, "e");
        assert_int_equal(qn_log_end(log, &err), QN_OK);
    }
    assert_int_equal(qn_log_lost(log), 4);
    assert_int_equal(qn_log_close(log, NULL), QN_OK);
}

/* A line that only half fits is taken back, and writing goes on when there is room again. */
static void torn_line_is_taken_back(void **state)
{
    (void)state;
    char buf[256];
    qn_error err = { 0 };
    struct rlimit old, small;
    qn_logger *log = reopen(false);
    qn_log_begin(log, "one");
    assert_int_equal(qn_log_end(log, NULL), QN_OK);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 24;
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    qn_log_begin(log, "two");
    qn_status status = qn_log_end(log, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, before);
    assert_int_equal(status, QN_EIO);
    assert_int_equal(err.offset, 16);
    slurp(buf, sizeof buf);
    assert_string_equal(buf, "{\"event\":\"one\"}\n");
    qn_log_begin(log, "three");
    assert_int_equal(qn_log_end(log, &err), QN_OK);
    assert_int_equal(qn_log_lost(log), 1);
    assert_int_equal(qn_log_close(log, NULL), QN_OK);
    slurp(buf, sizeof buf);
    assert_string_equal(buf, "{\"event\":\"one\"}\n{\"event\":\"three\"}\n");
    unlink(path);
}

/* A reader that went away must not kill the run: SIGPIPE keeps its default action here. */
static void broken_pipe(void **state)
{
    (void)state;
    int fd[2];
    size_t done;
    assert_int_equal(pipe(fd), 0);
    close(fd[0]);
    void (*before)(int) = signal(SIGPIPE, SIG_DFL);
    assert_int_equal(qn__write_quiet(fd[1], "x", 1, &done), EPIPE);
    sigset_t pending;
    sigpending(&pending);
    assert_false(sigismember(&pending, SIGPIPE));
    signal(SIGPIPE, before);
    close(fd[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_text),
        cmocka_unit_test(hostile_text),
        cmocka_unit_test(floats_come_back),
        cmocka_unit_test(long_lines_are_cut),
        cmocka_unit_test(append_and_refuse),
        cmocka_unit_test(full_device),
        cmocka_unit_test(torn_line_is_taken_back),
        cmocka_unit_test(broken_pipe),
    };
    return cmocka_run_group_tests(tests, make_dir, workdir_end);
}
