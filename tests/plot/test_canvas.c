/* test_canvas.c - shapes, letters and axes, by their pixels. */
#include "pixels.h"
#include <math.h>

static struct qn__canvas blank(double w, double h)
{
    struct qn__canvas c;
    assert_int_equal(qn__canvas_open(&c, w, h, NULL), QN_OK);
    return c;
}

static struct picture finish(struct qn__canvas *c)
{
    struct picture p = { c->w, c->h, qn__canvas_pixels(c) };
    qn__canvas_close(c);
    assert_non_null(p.rgb);
    return p;
}

/* Ink of a black drawing in whole pixels. */
static double ink(const struct picture *p)
{
    double sum = 0;
    for (int i = 0; i < p->w * p->h; i++) sum += 1 - p->rgb[3 * i] / 255.0;
    return sum;
}

static void rectangles_cover_their_area(void **state)
{
    (void)state;
    struct qn__canvas c = blank(40, 30);
    qn__rect(&c, 10, 5, 20, 15, 0x123456, 1);
    qn__rect(&c, 25.25, 5, 30, 15, 0, 1);
    struct picture p = finish(&c);
    assert_int_equal(count_all(&p, 0x123456), 100);
    assert_int_equal(pixel(&p, 10, 5), 0x123456);
    assert_int_equal(pixel(&p, 9, 5), 0xffffff);
    assert_int_equal(pixel(&p, 20, 14), 0xffffff);
    int edge = (int)(pixel(&p, 25, 10) & 0xff); /* three quarters black */
    assert_in_range(edge, 62, 66);
    free(p.rgb);
}

static void strokes_and_discs(void **state)
{
    (void)state;
    struct qn__canvas c = blank(60, 60);
    qn__line(&c, 10, 30, 50, 30, 4, 0xff0000, 1);
    struct picture p = finish(&c);
    for (int x = 11; x < 49; x++) {
        for (int y = 28; y < 32; y++) assert_int_equal(pixel(&p, x, y), 0xff0000);
        assert_int_equal(pixel(&p, x, 26), 0xffffff);
        assert_int_equal(pixel(&p, x, 33), 0xffffff);
    }
    free(p.rgb);
    const double pi = 3.14159265358979;
    c = blank(60, 60);
    qn__disc(&c, 30.3, 29.6, 12, 0, 1);
    p = finish(&c);
    assert_true(fabs(ink(&p) - pi * 144) < 1);
    free(p.rgb);
    c = blank(60, 60);
    qn__ring(&c, 30, 30, 15, 3, 0);
    p = finish(&c);
    assert_true(fabs(ink(&p) - 2 * pi * 15 * 3) < 1);
    free(p.rgb);
    c = blank(60, 60); /* a slanted stroke has the ink of its area and its two round ends */
    qn__line(&c, 10, 12, 40, 49, 3, 0, 1);
    p = finish(&c);
    assert_true(fabs(ink(&p) - (3 * hypot(30, 37) + pi * 2.25)) < 1);
    free(p.rgb);
}

static void dashes_leave_a_third(void **state)
{
    (void)state;
    struct qn__canvas c = blank(400, 20);
    const double x[5] = { 20, 101, 102, 250, 380 }, y[5] = { 10, 10, 10, 10, 10 };
    qn__dashes(&c, x, y, 5, 2, 10, 0);
    struct picture p = finish(&c);
    int dark = count(&p, 0, 9, 400, 10, 0);
    assert_in_range(dark, 240 - 5, 240 + 24 + 5); /* 12 dashes of 20, with round ends of a pixel */
    free(p.rgb);
}

/* Whatever is asked for, nothing is written outside of the picture or the clip. */
static void hostile_coordinates(void **state)
{
    (void)state;
    struct qn__canvas c = blank(20, 20);
    const double bad[] = { (double)NAN, (double)INFINITY, -(double)INFINITY, 1e300, -1e300 };
    for (int i = 0; i < 3; i++) {
        qn__line(&c, bad[i], 5, 10, 10, 2, 0, 1);
        qn__rect(&c, 3, bad[i], 10, 10, 0, 1);
        qn__disc(&c, 5, 5, bad[i], 0, 1);
        qn__text(&c, bad[i], 5, 12, QN__LEFT, QN__REGULAR, 0, "text");
    }
    qn__clip(&c, 5, 5, 10, 10);
    qn__rect(&c, -1e9, -1e9, 1e9, 1e9, 0x00ff00, 1);
    struct picture p = finish(&c);
    assert_int_equal(count_all(&p, 0x00ff00), 25);
    assert_int_equal(count_all(&p, 0xffffff), 375);
    free(p.rgb);
    c = blank(20, 20);
    qn__rect(&c, bad[4], bad[4], bad[3], bad[3], 0, 1);
    p = finish(&c);
    assert_int_equal(count_all(&p, 0), 400);
    free(p.rgb);
    qn_error err = { 0 };
    assert_int_equal(qn__canvas_open(&c, 1e9, 10, &err), QN_EUSAGE);
    assert_int_equal(err.code, 2203);
    assert_int_equal(qn__canvas_open(&c, 16384, 16384, &err), QN_EUSAGE);
    assert_int_equal(qn__canvas_open(&c, (double)NAN, 10, &err), QN_EUSAGE);
}

/* Every letter has ink, stays on its own ground, and looks like no other. */
static void letters(void **state)
{
    (void)state;
    enum { W = 80, H = 80 };
    static unsigned char seen[96][W * H * 3];
    int n = 0;
    for (int ch = 0x21; ch < 0x7f; ch++) {
        char text[2] = { (char)ch, 0 };
        double width = qn__text_width(40, QN__REGULAR, text);
        struct qn__canvas c = blank(W, H);
        qn__text(&c, 20, 50, 40, QN__LEFT, QN__REGULAR, 0, text);
        struct picture p = finish(&c);
        assert_true(ink(&p) > 8);
        int left = 18, right = 20 + (int)ceil(width) + 2;
        int outside = W * H - (right - left) * (62 - 14);
        outside -= count(&p, 0, 0, W, 14, 0xffffff) + count(&p, 0, 62, W, H, 0xffffff) +
                   count(&p, 0, 14, left, 62, 0xffffff) + count(&p, right, 14, W, 62, 0xffffff);
        if (outside) fail_msg("'%s' leaves its place by %d pixels", text, outside);
        for (int k = 0; k < n; k++)
            if (!memcmp(seen[k], p.rgb, sizeof seen[k])) fail_msg("'%s' looks like another", text);
        memcpy(seen[n++], p.rgb, sizeof seen[0]);
        free(p.rgb);
    }
    assert_int_equal(n, 94);
}

static void text_is_measured_and_fitted(void **state)
{
    (void)state;
    char buf[128], big[2000];
    memset(big, 'w', sizeof big - 1);
    big[sizeof big - 1] = 0;
    double a = qn__text_width(20, QN__REGULAR, "ab"), b = qn__text_width(20, QN__REGULAR, "abab");
    assert_true(fabs(b - 2 * a) < 1e-9 && a > 0);
    assert_true(qn__text_width(20, QN__BOLD, "ab") > a);
    assert_true(qn__text_width(20, QN__REGULAR, NULL) == 0);
    assert_true(fabs(qn__text_width(20, QN__REGULAR, "0") - qn__text_width(20, QN__REGULAR, "1")) < 1e-9);
    assert_string_equal(qn__text_fit(buf, 1000, 12, QN__REGULAR, "short"), "short");
    assert_string_equal(qn__text_fit(buf, 1000, 12, QN__REGULAR, NULL), "");
    const char *cut = qn__text_fit(buf, 100, 12, QN__REGULAR, "a label that is much too long");
    assert_true(qn__text_width(12, QN__REGULAR, cut) <= 100);
    assert_string_equal(cut + strlen(cut) - 3, "...");
    assert_true(strncmp(cut, "a label", 7) == 0);
    qn__text_fit(buf, 300, 12, QN__REGULAR, big);
    assert_true(qn__text_width(12, QN__REGULAR, buf) <= 300);
    qn__text_fit(buf, 0, 12, QN__REGULAR, big);
    assert_true(strlen(buf) <= 4);
    /* two characters that the font lacks are two boxes, not five bytes' worth */
    double box = qn__text_width(20, QN__REGULAR, "\xc3\xa4");
    assert_true(fabs(qn__text_width(20, QN__REGULAR, "\xc3\xa4\xe2\x82\xac") - 2 * box) < 1e-9);
}

static void expect_ticks(double low, double high, bool log, int wanted, int n, ...)
{
    struct qn__axis a;
    va_list ap;
    qn__axis_make(&a, low, high, log, true, wanted);
    va_start(ap, n);
    for (int i = 0; i < n; i++) {
        const char *want = va_arg(ap, const char *);
        assert_true(i < a.n);
        assert_string_equal(a.text[i], want);
    }
    va_end(ap);
    assert_int_equal(a.n, n);
    assert_true(a.low <= low && a.high >= high);
    assert_true(fabs(qn__axis_share(&a, a.low)) < 1e-12 && fabs(qn__axis_share(&a, a.high) - 1) < 1e-12);
}

static void ticks_are_round(void **state)
{
    (void)state;
    expect_ticks(0.21, 1.1, false, 6, 6, "0.2", "0.4", "0.6", "0.8", "1.0", "1.2");
    expect_ticks(0, 100, false, 5, 6, "0", "20", "40", "60", "80", "100");
    expect_ticks(-3, 2.5, false, 6, 7, "-3", "-2", "-1", "0", "1", "2", "3");
    expect_ticks(0.8871, 0.8993, false, 5, 4, "0.885", "0.890", "0.895", "0.900");
    expect_ticks(1e-4, 3, true, 6, 6, "1e-04", "0.001", "0.01", "0.1", "1", "10");
    expect_ticks(0.22, 1.1, true, 6, 4, "0.2", "0.5", "1", "2");
}

static void odd_ranges_still_make_an_axis(void **state)
{
    (void)state;
    const double v[] = {
        0, -0.0, 1, -1, 1e-320, 1e308, -1e308, 1.7e308, (double)NAN, (double)INFINITY, -(double)INFINITY, 3, 3 + 1e-15
    };
    const int n = sizeof v / sizeof v[0];
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            for (int mode = 0; mode < 4; mode++) {
                struct qn__axis a;
                qn__axis_make(&a, v[i], v[j], mode & 1, mode & 2, 6);
                assert_true(isfinite(a.low) && isfinite(a.high) && a.low < a.high);
                assert_in_range(a.n, 0, QN__TICKS);
            }
}

static void numbers(void **state)
{
    (void)state;
    char b[32];
    assert_string_equal(qn__grouped(b, 0), "0");
    assert_string_equal(qn__grouped(b, 999), "999");
    assert_string_equal(qn__grouped(b, 1000), "1,000");
    assert_string_equal(qn__grouped(b, -1234567), "-1,234,567");
    assert_string_equal(qn__grouped(b, INT64_MIN), "-9,223,372,036,854,775,808");
    assert_string_equal(qn__number(b, 0.25, 3), "0.25");
}

static void colours(void **state)
{
    (void)state;
    assert_int_equal(qn__mix(0x000000, 0xffffff, 0.5), 0x808080);
    assert_int_equal(qn__mix(0x102030, 0xffffff, (double)NAN), 0x102030);
    assert_int_equal(qn__diverging(0), 0xf7f7f7);
    assert_int_equal(qn__diverging(7), qn__diverging(1));
    assert_int_equal(qn__ink_on(0xffffff), QN__INK);
    assert_int_equal(qn__ink_on(0x0b3c7c), QN__PAPER);
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < i; j++) assert_int_not_equal(qn__palette(i), qn__palette(j));
    assert_int_equal(qn__palette(-1), qn__palette(7));
    double before = 1e9; /* darker with every step, so that it reads in black and white too */
    for (int i = 0; i <= 20; i++) {
        qn__color c = qn__sequential(i / 20.0);
        double light = 0.3 * (double)(c >> 16) + 0.59 * (double)(c >> 8 & 255) + 0.11 * (double)(c & 255);
        assert_true(light < before);
        before = light;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rectangles_cover_their_area),
        cmocka_unit_test(strokes_and_discs),
        cmocka_unit_test(dashes_leave_a_third),
        cmocka_unit_test(hostile_coordinates),
        cmocka_unit_test(letters),
        cmocka_unit_test(text_is_measured_and_fitted),
        cmocka_unit_test(ticks_are_round),
        cmocka_unit_test(odd_ranges_still_make_an_axis),
        cmocka_unit_test(numbers),
        cmocka_unit_test(colours),
    };
    return cmocka_run_group_tests(tests, make_dir, workdir_end);
}
