/* test_plot.c - the charts: what must be where, in which colour. */
#include "pixels.h"
#include <math.h>
#include <sys/stat.h>

static void no_file(void)
{
    struct stat st;
    assert_int_not_equal(stat(test_path, &st), 0);
}

/* ---- lines -------------------------------------------------------------------------------- */

static struct picture lines(const qn_line_chart *charts, int count)
{
    qn_error err = { 0 };
    if (qn_plot_lines(test_path, charts, count, &err)) fail_msg("%s", err.text);
    return decode();
}

/* The box of a chart without labels ends 24 pixels from the right and begins 56 from the top. */
static void lines_go_where_the_values_are(void **state)
{
    (void)state;
    const double up[2] = { 0, 1 }, down[2] = { 1, 0 };
    for (int k = 0; k < 2; k++) {
        qn_plot_series s = { .x = up, .y = k ? down : up, .n = 2 };
        struct picture p = lines(&(qn_line_chart){ .series = &s, .count = 1 }, 1);
        assert_int_equal(p.w, 900);
        assert_int_equal(p.h, 420);
        int rise = count(&p, 840, 56, 876, 90, qn__palette(0));
        int fall = count(&p, 840, 340, 876, 382, qn__palette(0));
        assert_true(k ? rise == 0 && fall > 30 : rise > 30 && fall == 0);
        free(p.rgb);
    }
}

static void gaps_and_single_points(void **state)
{
    (void)state;
    const double x[9] = { 0, 1, 2, 3, 4, 5, 6, 7, 8 };
    double y[9] = { 1, 1, 1, (double)NAN, 1, (double)INFINITY, 1, 1, 1 };
    qn_plot_series s[2] = { { .x = x, .y = y, .n = 9 }, { .x = x, .y = x, .n = 1, .color = 3 } };
    struct picture p = lines(&(qn_line_chart){ .series = s, .count = 2 }, 1);
    int columns[900] = { 0 }, left = 900, right = 0;
    for (int i = 0; i < 900; i++) {
        columns[i] = count(&p, i, 50, i + 1, 390, qn__palette(0));
        if (columns[i] && i < left) left = i;
        if (columns[i]) right = i;
    }
    double step = (right - left) / 8.0;
    for (int i = 0; i < 8; i++) { /* between the points: only where both ends are there */
        bool drawn = isfinite(y[i]) && isfinite(y[i + 1]);
        assert_int_equal(columns[left + (int)(step * (i + 0.5))] > 0, drawn);
    }
    assert_true(columns[left + (int)(step * 4)] > 4); /* a lonely point is a dot */
    assert_true(count_all(&p, qn__palette(2)) > 10);
    free(p.rgb);
}

/* The legend goes to the emptiest corner and shows each series' colour and name. */
static void legend(void **state)
{
    (void)state;
    const double up[2] = { 0, 1 };
    qn_plot_series s[2] = { { .y = up, .n = 2 }, { .y = up, .n = 0 } };
    qn_line_chart chart = { .series = s, .count = 2 };
    struct picture p = lines(&chart, 1);
    int ink = inky(&p, 600, 60, 870, 376), second = count_all(&p, qn__palette(1));
    assert_int_equal(ink, 0);
    assert_int_equal(second, 0);
    free(p.rgb);
    s[0].name = "training";
    s[1].name = "validation";
    p = lines(&chart, 1); /* a rising line: the lower right is free */
    assert_true(inky(&p, 600, 280, 870, 376) > 20);
    assert_int_equal(inky(&p, 600, 60, 870, 200), 0);
    assert_true(count(&p, 600, 280, 870, 376, qn__palette(1)) > 15);
    free(p.rgb);
}

static void log_scale(void **state)
{
    (void)state;
    const double x[3] = { 0, 1, 2 }, y[3] = { 1, 10, 100 };
    qn_plot_series s = { .x = x, .y = y, .n = 3 };
    for (int k = 0; k < 2; k++) { /* the middle point lies in the middle, or low down */
        struct picture p = lines(&(qn_line_chart){ .series = &s, .count = 1, .log_y = k }, 1);
        int middle = count(&p, 440, 200, 480, 240, qn__palette(0));
        assert_int_equal(middle > 20, k);
        free(p.rgb);
    }
}

static void panels_and_empty_charts(void **state)
{
    (void)state;
    const double y[2] = { (double)NAN, (double)NAN }, zero[2] = { 0, -1 };
    qn_plot_series s[2] = { { .name = "nothing", .y = y, .n = 2 }, { .y = zero, .n = 2 } };
    qn_line_chart c[3] = { { .title = "a", .series = s, .count = 1 },
                           { .x_label = "x", .y_label = "y" },
                           { .series = &s[1], .count = 1, .log_y = true } };
    struct picture p = lines(c, 3);
    assert_int_equal(p.w, 1350);
    assert_true(inky(&p, 450, 0, 900, 420) > 5);
    assert_int_equal(count(&p, 900, 0, 1350, 420, qn__palette(0)), 0);
    free(p.rgb);
}

/* ---- confusion ---------------------------------------------------------------------------- */

static void confusion(void **state)
{
    (void)state;
    const int64_t counts[9] = { 5, 0, 0, 0, 6, 2, 0, 0, 0 };
    const char *const names[3] = { "aa", "b", "c" };
    qn_confusion_chart m = { .counts = counts, .classes = 3, .names = names };
    assert_int_equal(qn_plot_confusion(test_path, &m, NULL), QN_OK);
    struct picture p = decode();
    int x0 = (int)ceil(56 + qn__text_width(13, QN__REGULAR, "aa")), y0 = 24, cell = 64;
    assert_int_equal(pixel(&p, x0 + 4, y0 + 4), qn__sequential(1));
    assert_int_equal(pixel(&p, x0 + cell + 4, y0 + 4), qn__sequential(0));
    assert_int_equal(pixel(&p, x0 + cell + 4, y0 + cell + 4), qn__sequential(sqrt(0.75)));
    assert_int_equal(pixel(&p, x0 + 2 * cell + 4, y0 + cell + 4), qn__sequential(sqrt(0.25)));
    assert_int_equal(pixel(&p, x0 + 4, y0 + 2 * cell + 4), QN__GRID); /* a class that never occurs */
    /* white figures on the dark cell, none in the empty one */
    assert_true(count(&p, x0 + 4, y0 + 4, x0 + 60, y0 + 60, QN__PAPER) > 5);
    assert_int_equal(count(&p, x0 + cell + 4, y0 + 4, x0 + cell + 60, y0 + 60, qn__sequential(0)), 56 * 56);
    free(p.rgb);
}

static void confusion_of_many(void **state)
{
    (void)state;
    static int64_t counts[200 * 200];
    for (int i = 0; i < 200; i++) counts[i * 201] = INT64_MAX; /* sums must not overflow */
    const int sizes[4] = { 1, 11, 30, 200 };
    for (int k = 0; k < 4; k++) {
        qn_confusion_chart m = { .title = "t", .counts = counts, .classes = sizes[k] };
        assert_int_equal(qn_plot_confusion(test_path, &m, NULL), QN_OK);
        struct picture p = decode();
        assert_true(p.w <= 1200 && p.h <= 1200);
        free(p.rgb);
    }
}

/* ---- images ------------------------------------------------------------------------------- */

static void sheet_marks_what_is_wrong(void **state)
{
    (void)state;
    float x[2][1][4][4];
    for (int i = 0; i < 32; i++) (&x[0][0][0][0])[i] = (float)(i % 16) / 15;
    x[0][0][0][1] = NAN;
    const int32_t truth[2] = { 1, 0 }, guess[2] = { 1, 7 };
    const char *const names[2] = { "cat", "dog" };
    qn_image_sheet s = {
        .images = { &x[0][0][0][0], 2, 1, 4, 4, 0, 1 }, .truth = truth, .predicted = guess, .names = names, .classes = 2
    };
    assert_int_equal(qn_plot_sheet(test_path, &s, NULL), QN_OK);
    struct picture p = decode();
    int scale = 42;                /* 168 / 4 */
    for (int i = 0; i < 16; i++) { /* crisp: one colour to the very edge of each enlarged pixel */
        int grey = i == 1 ? 128 : i * 17, x0 = 24 + i % 4 * scale, y0 = 24 + i / 4 * scale;
        qn__color want = (qn__color)grey * 0x010101u;
        assert_int_equal(count(&p, x0, y0, x0 + scale, y0 + scale, want), scale * scale);
    }
    assert_int_equal(count(&p, 0, 0, 200, p.h, QN__WRONG), 0);
    int left = 24 + 168 + 12;
    for (int k = 0; k < 168; k += 20) {
        assert_int_equal(pixel(&p, left + k, 22), QN__WRONG);
        assert_int_equal(pixel(&p, left - 2, 24 + k), QN__WRONG);
        assert_int_equal(pixel(&p, left + 169, 24 + k), QN__WRONG);
    }
    assert_true(count(&p, left, 24 + 172, left + 168, 24 + 190, QN__WRONG) > 2); /* "7", no name */
    assert_true(inky(&p, 24, 24 + 170, 192, 24 + 190) > 5);
    free(p.rgb);
    s.truth = s.predicted = NULL;
    assert_int_equal(qn_plot_sheet(test_path, &s, NULL), QN_OK);
    p = decode();
    assert_int_equal(p.h, 24 + 168 + 24);
    free(p.rgb);
}

static void sheet_of_colour(void **state)
{
    (void)state;
    float x[3] = { 10, 20, 15 };
    qn_image_sheet s = { .images = { x, 1, 3, 1, 1, 10, 20 } };
    assert_int_equal(qn_plot_sheet(test_path, &s, NULL), QN_OK);
    struct picture p = decode();
    assert_int_equal(pixel(&p, 100, 100), 0x00ff80);
    free(p.rgb);
    static float large[300 * 512];
    s = (qn_image_sheet){ .title = "t", .images = { large, 1, 1, 300, 512, 0, 0 } };
    assert_int_equal(qn_plot_sheet(test_path, &s, NULL), QN_OK); /* shrunk to a quarter */
    p = decode();
    assert_int_equal(count_all(&p, 0), 128 * 75);
    free(p.rgb);
}

static void filters(void **state)
{
    (void)state;
    const float w[2][1][1][3] = { { { { 2, 0, -2 } } }, { { { 1, NAN, -1 } } } };
    qn_filter_grid g = { .weights = &w[0][0][0][0], .out = 2, .in = 1, .h = 1, .w = 3 };
    assert_int_equal(qn_plot_filters(test_path, &g, NULL), QN_OK);
    struct picture p = decode();
    const double want[2][3] = { { 1, 0, -1 }, { 0.5, 0, -0.5 } };
    for (int f = 0; f < 2; f++)
        for (int k = 0; k < 3; k++) {
            qn__color c = isnan(w[f][0][0][k]) ? (qn__color)QN__AXIS : qn__diverging(want[f][k]);
            assert_int_equal(pixel(&p, 24 + f * 92 + 28 * k + 14, 24 + 14), c);
        }
    free(p.rgb);
}

static void saliency(void **state)
{
    (void)state;
    const float x[4] = { 1, 1, 0, 0.5f }, heat[4] = { 0, -3, 0, NAN }; /* magnitudes count */
    qn_saliency_sheet s = { .images = { x, 1, 1, 2, 2, 0, 1 }, .heat = heat };
    assert_int_equal(qn_plot_saliency(test_path, &s, NULL), QN_OK);
    struct picture p = decode();
    int right = 24 + 96 + 3;
    assert_int_equal(pixel(&p, 30, 30), 0xffffff);
    assert_int_equal(pixel(&p, right + 10, 30), 0x737373); /* dimmed */
    assert_int_equal(pixel(&p, right + 60, 30), qn__heat(1));
    assert_int_equal(pixel(&p, right + 10, 90), 0x000000);
    free(p.rgb);
}

/* ---- bars and points ---------------------------------------------------------------------- */

static void bars(void **state)
{
    (void)state;
    const qn_plot_bar b[3] = { { "one", 10, NULL, 1 }, { "half", 5, NULL, 2 }, { "none", (double)NAN, NULL, 3 } };
    qn_bar_chart ch = { .bars = b, .count = 3, .reference = 7.5, .reference_label = "three quarters" };
    assert_int_equal(qn_plot_bars(test_path, &ch, NULL), QN_OK);
    struct picture p = decode();
    int one = count_all(&p, qn__palette(0)), half = count_all(&p, qn__palette(1));
    assert_true(one > 5000 && abs(one - 2 * half) <= 60);
    assert_int_equal(count_all(&p, qn__palette(2)), 0);
    free(p.rgb);
}

static void scatter(void **state)
{
    (void)state;
    const double x[4] = { 1, 10, 100, -1 }, y[4] = { 1, 2, 3, 4 }, c[4] = { 0, 1, (double)NAN, 0 };
    qn_scatter_chart ch = { .x = x, .y = y, .n = 4, .log_x = true, .best = 1 };
    assert_int_equal(qn_plot_scatter(test_path, &ch, NULL), QN_OK);
    struct picture p = decode();
    int all = count_all(&p, qn__mix(0xffffff, qn__palette(0), 0.92));
    assert_in_range(all, 3 * 40, 3 * 70); /* the point at -1 has no place on a log axis */
    assert_true(count_all(&p, QN__WRONG) > 30);
    free(p.rgb);
    ch.color = c;
    ch.best = -1;
    assert_int_equal(qn_plot_scatter(test_path, &ch, NULL), QN_OK);
    p = decode();
    assert_int_equal(count_all(&p, qn__mix(0xffffff, qn__palette(0), 0.92)), 0);
    assert_int_equal(count_all(&p, QN__WRONG), 0);
    free(p.rgb);
    ch.n = 0;
    assert_int_equal(qn_plot_scatter(test_path, &ch, NULL), QN_OK);
    p = decode();
    free(p.rgb);
}

/* ---- what must not work, and what must not hurt ------------------------------------------- */

#define REFUSED(call, want) \
    do { \
        qn_error err = { 0 }; \
        assert_int_equal(call, QN_EUSAGE); \
        assert_int_equal(err.code, want); \
        no_file(); \
    } while (0)

static void refusals(void **state)
{
    (void)state;
    const double y[1] = { 1 };
    const float x[16] = { 0 };
    const int64_t negative[1] = { -1 };
    const qn_plot_bar bar = { "b", -1, NULL, 0 };
    qn_plot_series s = { .y = NULL, .n = 3 };
    qn_line_chart line = { .series = &s, .count = 1 };
    REFUSED(qn_plot_lines(NULL, &line, 1, &err), 2204);
    REFUSED(qn_plot_lines(test_path, NULL, 1, &err), 2203);
    REFUSED(qn_plot_lines(test_path, &line, 0, &err), 2203);
    REFUSED(qn_plot_lines(test_path, &line, 1, &err), 2204);
    s = (qn_plot_series){ .y = y, .n = -1 };
    REFUSED(qn_plot_lines(test_path, &line, 1, &err), 2204);
    line.count = 65;
    REFUSED(qn_plot_lines(test_path, &line, 1, &err), 2203);
    qn_confusion_chart m = { .counts = negative, .classes = 1 };
    REFUSED(qn_plot_confusion(test_path, &m, &err), 2204);
    m.classes = 201;
    REFUSED(qn_plot_confusion(test_path, &m, &err), 2203);
    qn_image_sheet sheet = { .images = { x, 1, 2, 2, 2, 0, 1 } };
    REFUSED(qn_plot_sheet(test_path, &sheet, &err), 2203);
    sheet.images = (qn_plot_images){ x, 401, 1, 1, 1, 0, 1 };
    REFUSED(qn_plot_sheet(test_path, &sheet, &err), 2203);
    sheet.images = (qn_plot_images){ x, 1, 1, 513, 1, 0, 1 };
    REFUSED(qn_plot_sheet(test_path, &sheet, &err), 2203);
    sheet.images = (qn_plot_images){ x, 1, 1, 1, 1, NAN, 1 };
    REFUSED(qn_plot_sheet(test_path, &sheet, &err), 2204);
    qn_filter_grid grid = { .weights = x, .out = 4096, .in = 2, .h = 1, .w = 1 };
    REFUSED(qn_plot_filters(test_path, &grid, &err), 2203);
    grid = (qn_filter_grid){ .weights = NULL, .out = 1, .in = 1, .h = 1, .w = 1 };
    REFUSED(qn_plot_filters(test_path, &grid, &err), 2204);
    qn_saliency_sheet sal = { .images = { x, 1, 1, 1, 1, 0, 1 } };
    REFUSED(qn_plot_saliency(test_path, &sal, &err), 2204);
    REFUSED(qn_plot_bars(test_path, &(qn_bar_chart){ .bars = &bar, .count = 1 }, &err), 2204);
    REFUSED(qn_plot_bars(test_path, &(qn_bar_chart){ .bars = &bar, .count = 0 }, &err), 2203);
    REFUSED(qn_plot_scatter(test_path, &(qn_scatter_chart){ .n = 1 }, &err), 2204);
    REFUSED(qn_plot_scatter(test_path, &(qn_scatter_chart){ .n = -1 }, &err), 2203);
}

static void unwritable(void **state)
{
    (void)state;
    qn_error err = { 0 };
    qn_line_chart line = { .title = "t" };
    assert_int_equal(qn_plot_lines("/nowhere/at/all.png", &line, 1, &err), QN_EIO);
    assert_int_equal(err.code, 6002);
    assert_int_equal(strncmp(err.text, "error E6002 io: /nowhere/at/all.png: ", 37), 0);
}

/* Any bytes, any length, any value: a picture, or an error, never worse. */
static void hostile_text_and_values(void **state)
{
    (void)state;
    static char text[5000];
    for (size_t i = 0; i < sizeof text - 1; i++) text[i] = (char)(1 + i * 131 % 255);
    const double y[8] = { 1e308, -1e308, 1e-320, 0, (double)NAN, (double)INFINITY, -1, 3 };
    qn_plot_series s[3] = { { text, y, y, 8, 1 << 30, true, true },
                            { "%n%s", NULL, y, 8, -5, false, false },
                            { "", y, y + 4, 4, 0, false, false } };
    for (int k = 0; k < 2; k++) {
        struct picture p = lines(&(qn_line_chart){ text, text, text, s, 3, k }, 1);
        free(p.rgb);
    }
    const int64_t counts[1] = { INT64_MAX };
    const char *const name = text;
    assert_int_equal(qn_plot_confusion(test_path, &(qn_confusion_chart){ text, counts, 1, &name }, NULL), QN_OK);
    free(decode().rgb);
    const float x[1] = { INFINITY };
    const int32_t low = INT32_MIN, high = INT32_MAX;
    qn_image_sheet sheet = { text, { x, 1, 1, 1, 1, 0, 1 }, &low, &high, &name, 1, 1000 };
    assert_int_equal(qn_plot_sheet(test_path, &sheet, NULL), QN_OK);
    free(decode().rgb);
    const qn_plot_bar b[2] = { { text, 1e308, text, -1 }, { NULL, 1e-320, NULL, 0 } };
    qn_bar_chart bc = { text, text, b, 2, (double)INFINITY, text };
    assert_int_equal(qn_plot_bars(test_path, &bc, NULL), QN_OK);
    free(decode().rgb);
    qn_scatter_chart sc = { text, text, text, text, y, y, y, 8, true, true, 99 };
    assert_int_equal(qn_plot_scatter(test_path, &sc, NULL), QN_OK);
    free(decode().rgb);
}

/* The same values give the same file, byte for byte. */
static void deterministic(void **state)
{
    (void)state;
    const double y[3] = { 3, 1, 2 };
    qn_plot_series s = { .name = "s", .y = y, .n = 3, .dashed = true };
    struct picture a = lines(&(qn_line_chart){ .title = "t", .series = &s, .count = 1 }, 1);
    struct picture b = lines(&(qn_line_chart){ .title = "t", .series = &s, .count = 1 }, 1);
    assert_memory_equal(a.rgb, b.rgb, (size_t)a.w * (size_t)a.h * 3);
    free(a.rgb);
    free(b.rgb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_go_where_the_values_are),
        cmocka_unit_test(gaps_and_single_points),
        cmocka_unit_test(legend),
        cmocka_unit_test(log_scale),
        cmocka_unit_test(panels_and_empty_charts),
        cmocka_unit_test(confusion),
        cmocka_unit_test(confusion_of_many),
        cmocka_unit_test(sheet_marks_what_is_wrong),
        cmocka_unit_test(sheet_of_colour),
        cmocka_unit_test(filters),
        cmocka_unit_test(saliency),
        cmocka_unit_test(bars),
        cmocka_unit_test(scatter),
        cmocka_unit_test(refusals),
        cmocka_unit_test(unwritable),
        cmocka_unit_test(hostile_text_and_values),
        cmocka_unit_test(deterministic),
    };
    return cmocka_run_group_tests(tests, make_dir, workdir_end);
}
