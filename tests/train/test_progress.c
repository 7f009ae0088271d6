/* test_progress.c - what a terminal, a file and a closed stream get to see. */
#include "../../train/progress.h"
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static double now;
static double fake_clock(void *user)
{
    (void)user;
    return now;
}

struct capture {
    int fd[2];
    char text[65536];
};

static void open_capture(struct capture *c)
{
    assert_int_equal(pipe(c->fd), 0);
    assert_int_equal(fcntl(c->fd[0], F_SETFL, O_NONBLOCK), 0);
}

static const char *drain(struct capture *c)
{
    ssize_t n = read(c->fd[0], c->text, sizeof c->text - 1);
    c->text[n > 0 ? n : 0] = 0;
    return c->text;
}

static qn_progress *make(struct capture *c, qn_progress_mode mode, int64_t every)
{
    qn_progress *p = NULL;
    now = 100;
    open_capture(c);
    qn_progress_options o = { .fd = c->fd[1],
                              .mode = mode,
                              .epochs = 2,
                              .steps_per_epoch = 100,
                              .every = every,
                              .metric = "acc",
                              .unit = "img",
                              .clock = fake_clock };
    assert_int_equal(qn_progress_create(&p, &o, NULL), QN_OK);
    return p;
}

static void close_capture(struct capture *c, qn_progress *p)
{
    qn_progress_free(p);
    close(c->fd[0]);
    close(c->fd[1]);
}

static void step(qn_progress *p, int64_t epoch, int64_t k)
{
    now += 0.04;
    qn_progress_step(p, &(qn_progress_state){ epoch, k, 64, 0.5, 0.75 });
}

static void small_texts(void **state)
{
    (void)state;
    char b[32];
    assert_string_equal(qn__clock_text(b, 42.4), "0:42");
    assert_string_equal(qn__clock_text(b, 3599.6), "1:00:00");
    assert_string_equal(qn__clock_text(b, 3723), "1:02:03");
    assert_string_equal(qn__clock_text(b, 273600), "3d 4h");
    assert_string_equal(qn__clock_text(b, (double)NAN), "-");
    assert_string_equal(qn__clock_text(b, -1), "-");
    assert_string_equal(qn__rate_text(b, 0), "0.00");
    assert_string_equal(qn__rate_text(b, 812.3), "812");
    assert_string_equal(qn__rate_text(b, 999.7), "1.00k");
    assert_string_equal(qn__rate_text(b, 21345), "21.3k");
    assert_string_equal(qn__rate_text(b, 1.254e6), "1.25M");
    assert_string_equal(qn__rate_text(b, (double)INFINITY), "-");
    assert_int_equal(qn__columns("a\xe2\x94\x81z"), 3);
}

static void plain_lines(void **state)
{
    (void)state;
    struct capture c;
    qn_progress *p = make(&c, QN_PROGRESS_PLAIN, 50);
    for (int k = 1; k <= 100; k++) step(p, 1, k);
    qn_progress_note(p, "a\x1b[31m warning");
    qn_progress_epoch_end(p, &(qn_progress_epoch){ 1, 0.5, 0.75, 0.6, (double)NAN });
    assert_string_equal(drain(&c), "epoch 1/2  step 50/100  loss 0.5000  acc 0.7500  1.60k img/s  eta 0:06\n"
                                   "epoch 1/2  step 100/100  loss 0.5000  acc 0.7500  1.60k img/s  eta 0:04\n"
                                   "a\\x1B[31m warning\n"
                                   "epoch 1/2  loss 0.5000  acc 0.7500  val loss 0.6000  1.60k img/s  0:04\n");
    close_capture(&c, p);
}

static void one_line_per_epoch(void **state)
{
    (void)state;
    struct capture c;
    qn_progress *p = make(&c, QN_PROGRESS_AUTO, 0); /* a pipe is no terminal */
    for (int k = 1; k <= 100; k++) step(p, 1, k);
    assert_string_equal(drain(&c), "");
    qn_progress_epoch_end(p, &(qn_progress_epoch){ 1, 0.5, 0.75, 0.6, 0.7 });
    assert_non_null(strstr(drain(&c), "val acc 0.7000"));
    assert_null(strchr(c.text, '\x1b'));
    close_capture(&c, p);
}

/* 100 steps of 0.04 s: at most ten drawings a second, each no wider than the terminal. */
static void terminal_line(void **state)
{
    (void)state;
    static const char *const widths[] = { "20", "40", "80", "200", "nonsense" };
    setenv("LC_ALL", "C", 1);
    setenv("NO_COLOR", "1", 1);
    for (int w = 0; w < 5; w++) {
        struct capture c;
        setenv("COLUMNS", widths[w], 1);
        long columns = w < 4 ? strtol(widths[w], NULL, 10) : 80;
        qn_progress *p = make(&c, QN_PROGRESS_TERMINAL, 0);
        for (int k = 1; k <= 100; k++) step(p, 1, k);
        int drawn = 0;
        for (char *s = strtok((char *)(uintptr_t)drain(&c), "\r"); s; s = strtok(NULL, "\r"), drawn++) {
            assert_memory_equal(s, "\x1b[K", 3);
            assert_true((long)strlen(s + 3) < columns);
            assert_null(strchr(s + 3, '\x1b'));
            assert_int_equal(strchr(s, '#') || strstr(s, "---"), columns >= 80);
        }
        assert_in_range(drawn, 30, 41);
        qn_progress_note(p, "note");
        assert_string_equal(drain(&c), "\r\x1b[Knote\n");
        close_capture(&c, p);
    }
    unsetenv("COLUMNS");
    unsetenv("NO_COLOR");
    unsetenv("LC_ALL");
}

/* The bar is as long as the share of steps done. */
static void bar_length(void **state)
{
    (void)state;
    struct capture c;
    setenv("LC_ALL", "C.UTF-8", 1);
    setenv("NO_COLOR", "1", 1);
    setenv("COLUMNS", "200", 1);
    qn_progress *p = make(&c, QN_PROGRESS_TERMINAL, 0);
    step(p, 1, 25);
    int full = 0, empty = 0;
    for (const char *s = drain(&c); *s; s++) {
        full += strncmp(s, "\xe2\x94\x81", 3) == 0;
        empty += strncmp(s, "\xe2\x94\x80", 3) == 0;
    }
    assert_int_equal(full, 10);
    assert_int_equal(empty, 30);
    close_capture(&c, p);
    unsetenv("NO_COLOR");
    setenv("TERM", "xterm", 1);
    p = make(&c, QN_PROGRESS_TERMINAL, 0);
    step(p, 1, 25);
    assert_non_null(strstr(drain(&c), "\x1b[36m"));
    close_capture(&c, p);
    unsetenv("COLUMNS");
    unsetenv("LC_ALL");
}

/* A resumed run's estimate knows nothing of the steps that an earlier process made. */
static void resumed(void **state)
{
    (void)state;
    struct capture c;
    qn_progress *p = make(&c, QN_PROGRESS_PLAIN, 1);
    now += 0.96;
    step(p, 2, 91); /* one step in one second, nine to go */
    assert_non_null(strstr(drain(&c), "64.0 img/s  eta 0:09\n"));
    close_capture(&c, p);
}

/* Broken and closed streams, and values nobody expects, are survived in silence. */
static void harmless(void **state)
{
    (void)state;
    struct capture c;
    void (*before)(int) = signal(SIGPIPE, SIG_DFL);
    qn_progress *p = make(&c, QN_PROGRESS_PLAIN, 1);
    close(c.fd[0]);
    step(p, 1, 1);
    step(p, 1, 2);
    qn_progress_note(p, "x");
    qn_progress_free(p);
    close(c.fd[1]);
    signal(SIGPIPE, before);
    for (int mode = 0; mode < 4; mode++) {
        qn_progress_options o = {
            .fd = 987654, .mode = (qn_progress_mode)mode, .epochs = 1, .steps_per_epoch = INT64_MAX, .every = 1
        };
        assert_int_equal(qn_progress_create(&p, &o, NULL), QN_OK);
        step(p, -5, INT64_MIN);
        step(p, INT64_MAX, INT64_MAX);
        qn_progress_step(p, &(qn_progress_state){ 1, 1, -1, 1e300, (double)-INFINITY });
        qn_progress_epoch_end(p, &(qn_progress_epoch){ 1, 1e300, 0, 0, 0 });
        qn_progress_free(p);
    }
    qn_error err = { 0 };
    qn_progress_options o = { .fd = 2, .epochs = 0, .steps_per_epoch = 1 };
    assert_int_equal(qn_progress_create(&p, &o, &err), QN_EUSAGE);
    assert_int_equal(err.code, 2204);
    assert_null(p);
    qn_progress_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_texts),   cmocka_unit_test(plain_lines), cmocka_unit_test(one_line_per_epoch),
        cmocka_unit_test(terminal_line), cmocka_unit_test(bar_length),  cmocka_unit_test(resumed),
        cmocka_unit_test(harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
