/* pixels.h - reads back what the charts wrote, with libpng itself. */
#ifndef TESTS_PLOT_PIXELS_H
#define TESTS_PLOT_PIXELS_H
#include "../../plot/canvas.h"
#include "../lib/workdir.h"
#include <png.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

struct picture {
    int w, h;
    unsigned char *rgb;
};

static char test_path[128];

static int make_dir(void **state)
{
    if (workdir_begin(state)) return -1;
    snprintf(test_path, sizeof test_path, "%s/out", workdir);
    return 0;
}

/* Decodes and removes the file the test wrote. */
static inline struct picture decode(void)
{
    png_image image = { .version = PNG_IMAGE_VERSION };
    assert_true(png_image_begin_read_from_file(&image, test_path));
    image.format = PNG_FORMAT_RGB;
    struct picture p = { (int)image.width, (int)image.height, malloc(PNG_IMAGE_SIZE(image)) };
    assert_non_null(p.rgb);
    assert_true(png_image_finish_read(&image, NULL, p.rgb, 0, NULL));
    unlink(test_path);
    return p;
}

static inline qn__color pixel(const struct picture *p, int x, int y)
{
    assert_in_range(x, 0, p->w - 1);
    assert_in_range(y, 0, p->h - 1);
    const unsigned char *c = p->rgb + (y * p->w + x) * 3;
    return (qn__color)c[0] << 16 | (qn__color)c[1] << 8 | c[2];
}

/* Pixels of exactly this colour in [x0,x1) x [y0,y1). */
static inline int count(const struct picture *p, int x0, int y0, int x1, int y1, qn__color color)
{
    int n = 0;
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++) n += pixel(p, x, y) == color;
    return n;
}

static inline int count_all(const struct picture *p, qn__color color) { return count(p, 0, 0, p->w, p->h, color); }

/* Pixels that look like text: dark and without colour. */
static inline int inky(const struct picture *p, int x0, int y0, int x1, int y1)
{
    int n = 0;
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++) {
            int r = (int)(pixel(p, x, y) >> 16), b = (int)(pixel(p, x, y) & 0xff);
            n += b < 165 && b - r < 30 && r - b < 30;
        }
    return n;
}
#endif
