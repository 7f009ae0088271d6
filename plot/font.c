/* font.c - a proportional stroke font: each glyph is a few lines and arcs, drawn with round pens.
 *
 * Units: baseline 0, x-height 10, capitals 14, ascenders 15, descenders -4.6; the em is 20. y goes up.
 *   M x y          lift the pen and move          L x y ...      line, or several
 *   Q cx cy x y    quadratic curve                D x y          dot
 *   O cx cy rx ry from to   elliptic arc (degrees, counter-clockwise positive) as a new stroke
 *   A cx cy rx ry from to   the same, joined to the stroke before */
#include "canvas.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EM = 20, LONGEST = 512 };

struct glyph {
    double width, side; /* of the ink, and the blank on either side of it */
    const char *path;
};

/* clang-format off */
static const struct glyph glyphs[95] = {
    { 2.4, 2, "" },                                                                       /* space */
    { 0, 2.4, "M 0 14 L 0 4.6 D 0 0.5" },                                                 /* ! */
    { 3.2, 2, "M 0 14 L 0 10.4 M 3.2 14 L 3.2 10.4" },                                    /* " */
    { 10.4, 1.6, "M 2 0 L 4 14 M 6.4 0 L 8.4 14 M 0 4.6 L 9.6 4.6 M 0.8 9.4 L 10.4 9.4" },
    { 9.4, 1.7, "O 4.7 10.3 4.3 3.2 35 270 A 4.7 3.6 4.7 3.5 90 -150 M 4.7 15.6 L 4.7 -1.8" },
    { 12.8, 1.8, "O 2.6 11 2.6 3 0 360 O 10.2 3 2.6 3 0 360 M 10.4 14 L 2.4 0" },         /* % */
    { 10.6, 1.6, "M 10.6 0 L 1.9 9.4 A 4.1 11.2 2.6 2.8 215 -42 L 1.3 5.5 A 3.9 3.2 3.7 3.2 140 300 "
                 "Q 8.6 2 9.6 6.4" },                                                     /* & */
    { 0, 2, "M 0 14 L 0 10.4" },                                                          /* ' */
    { 3, 2, "M 3 16 Q -2.6 6.2 3 -3.6" },                                                 /* ( */
    { 3, 2, "M 0 16 Q 5.6 6.2 0 -3.6" },                                                  /* ) */
    { 6.8, 1.6, "M 3.4 14.2 L 3.4 7.2 M 0.4 12.5 L 6.4 8.9 M 6.4 12.5 L 0.4 8.9" },       /* * */
    { 8.4, 1.8, "M 4.2 11 L 4.2 2.6 M 0 6.8 L 8.4 6.8" },                                 /* + */
    { 0.9, 2, "M 0.9 0.7 L 0 -2.8" },                                                     /* , */
    { 5, 1.9, "M 0 6 L 5 6" },                                                            /* - */
    { 0, 2.2, "D 0 0.5" },                                                                /* . */
    { 5.8, 1.4, "M 0 -2 L 5.8 15.4" },                                                    /* / */
    { 8, 1.9, "O 4 7 4 7 0 360" },                                                        /* 0 */
    { 8, 1.9, "M 1 11 L 4.8 14 L 4.8 0" },                                                /* 1 */
    { 8, 1.9, "O 4 10.1 3.7 3.9 170 -38 L 0.2 0 L 8 0" },                                 /* 2 */
    { 8, 1.9, "O 3.9 10.6 3.4 3.4 150 -90 A 3.9 3.6 4 3.6 90 -152" },                     /* 3 */
    { 8, 1.9, "M 6 0 L 6 14 L -0.2 4 L 8.3 4" },                                          /* 4 */
    { 8, 1.9, "M 7.2 14 L 1.3 14 L 0.8 7.3 A 3.9 4.5 4.1 4.5 135 -148" },                 /* 5 */
    { 8, 1.9, "O 4 4.4 4 4.4 0 360 M 6.2 14 Q 0.2 9.8 0 4.4" },                           /* 6 */
    { 8, 1.9, "M 0.1 14 L 7.9 14 L 2.6 0" },                                              /* 7 */
    { 8, 1.9, "O 4 10.6 3.4 3.4 0 360 O 4 3.6 4 3.6 0 360" },                             /* 8 */
    { 8, 1.9, "O 4 9.6 4 4.4 0 360 M 8 9.6 Q 7.8 4.2 1.8 0" },                            /* 9 */
    { 0, 2.2, "D 0 9.2 D 0 0.5" },                                                        /* : */
    { 0.9, 2, "D 0.7 9.2 M 0.9 0.7 L 0 -2.8" },                                           /* ; */
    { 8, 1.8, "M 8 11.4 L 0 6.8 L 8 2.2" },                                               /* < */
    { 8.4, 1.8, "M 0 9 L 8.4 9 M 0 4.8 L 8.4 4.8" },                                      /* = */
    { 8, 1.8, "M 0 11.4 L 8 6.8 L 0 2.2" },                                               /* > */
    { 7.2, 1.7, "O 3.6 10.5 3.5 3.5 165 -52 Q 3.6 6.2 3.6 4.6 D 3.6 0.5" },               /* ? */
    { 13.8, 1.7, "O 6.8 5.6 3.1 3.6 0 360 M 9.9 9 L 9.9 4.2 Q 9.9 2 11.7 2 Q 13.7 2 13.7 5.6 "
                 "A 6.9 5.4 6.8 7.6 2 305" },                                             /* @ */
    { 11, 0.9, "M 0 0 L 5.5 14 L 11 0 M 1.9 4.8 L 9.1 4.8" },                             /* A */
    { 9.4, 1.9, "M 0 0 L 0 14 L 5 14 A 5 10.6 3.6 3.4 90 -90 L 0 7.2 M 5 7.2 "
                "A 5.2 3.6 4.2 3.6 90 -90 L 0 0" },
    { 10.6, 1.6, "O 6.2 7 6.2 7 45 315" },                                                /* C */
    { 10.4, 1.9, "M 0 0 L 0 14 L 4 14 A 4 7 6.4 7 90 -90 L 0 0" },
    { 8.2, 1.8, "M 8 14 L 0 14 L 0 0 L 8.2 0 M 0 7.3 L 7 7.3" },
    { 8, 1.7, "M 8 14 L 0 14 L 0 0 M 0 7.1 L 7 7.1" },
    { 11.4, 1.7, "O 6.2 7 6.2 7 45 328 L 11.4 6.4 L 7 6.4" },                             /* G */
    { 9.6, 2, "M 0 0 L 0 14 M 9.6 0 L 9.6 14 M 0 7.2 L 9.6 7.2" },
    { 0, 2.2, "M 0 0 L 0 14" },                                                           /* I */
    { 6, 1.7, "M 6 14 L 6 3.8 A 3 3.8 3 3.8 0 -170" },
    { 9.6, 1.5, "M 0 14 L 0 0 M 9 14 L 0 5 M 3.4 8.4 L 9.6 0" },
    { 7.6, 1.6, "M 0 14 L 0 0 L 7.6 0" },
    { 12, 2, "M 0 0 L 0 14 L 6 4 L 12 14 L 12 0" },
    { 9.8, 2, "M 0 0 L 0 14 L 9.8 0 L 9.8 14" },
    { 12.8, 1.6, "O 6.4 7 6.4 7 0 360" },                                                 /* O */
    { 9, 1.7, "M 0 0 L 0 14 L 4.8 14 A 4.8 10 4.2 4 90 -90 L 0 6" },
    { 12.8, 1.6, "O 6.4 7 6.4 7 0 360 M 8 4 L 12.4 -0.8" },
    { 9.4, 1.7, "M 0 0 L 0 14 L 4.8 14 A 4.8 10 4.2 4 90 -90 L 0 6 M 4.6 6 L 9.4 0" },
    { 9.4, 1.6, "O 4.7 10.5 4.2 3.5 35 270 A 4.7 3.5 4.7 3.5 90 -152" },                  /* S */
    { 10, 1, "M 0 14 L 10 14 M 5 14 L 5 0" },
    { 9.6, 1.9, "M 0 14 L 0 4.8 A 4.8 4.8 4.8 4.8 180 360 L 9.6 14" },
    { 10.6, 0.9, "M 0 14 L 5.3 0 L 10.6 14" },
    { 14.8, 1, "M 0 14 L 3.6 0 L 7.4 13.2 L 11.2 0 L 14.8 14" },
    { 9.6, 1.2, "M 0 14 L 9.6 0 M 9.6 14 L 0 0" },
    { 10, 0.9, "M 0 14 L 5 6.6 L 10 14 M 5 6.6 L 5 0" },
    { 9.2, 1.5, "M 0.2 14 L 9 14 L 0 0 L 9.2 0" },
    { 3.2, 2, "M 3.2 16 L 0 16 L 0 -3.4 L 3.2 -3.4" },                                    /* [ */
    { 5.8, 1.4, "M 0 15.4 L 5.8 -2" },                                                    /* \ */
    { 3.2, 2, "M 0 16 L 3.2 16 L 3.2 -3.4 L 0 -3.4" },                                    /* ] */
    { 6.8, 1.8, "M 0 9 L 3.4 14 L 6.8 9" },                                               /* ^ */
    { 9, 0.6, "M 0 -2.6 L 9 -2.6" },                                                      /* _ */
    { 2.2, 2, "M 0 14.4 L 2.2 11.8" },                                                    /* ` */
    { 7.6, 1.8, "M 0.7 8.3 A 4 6.8 3.6 3.2 146 0 L 7.6 0 M 7.6 5.8 L 3.3 5.8 "
                "A 3.2 2.9 3.2 2.9 90 270 Q 6.2 0 7.6 2.8" },                             /* a */
    { 8.6, 1.8, "M 0 15 L 0 0 O 4.3 5 4.3 5 0 360" },
    { 7.8, 1.6, "O 4.4 5 4.4 5 48 312" },
    { 8.6, 1.8, "M 8.6 15 L 8.6 0 O 4.3 5 4.3 5 0 360" },
    { 8.8, 1.6, "M 0 5.3 L 8.8 5.3 A 4.4 5 4.4 5 3 316" },                                /* e */
    { 5.2, 1, "M 5.4 14.8 Q 2 15.6 2 12 L 2 0 M 0 10 L 4.8 10" },
    { 8.6, 1.8, "O 4.3 5 4.3 5 0 360 M 8.6 10 L 8.6 -0.6 A 4.4 -0.6 4.2 3.8 0 -150" },
    { 8, 1.9, "M 0 15 L 0 0 M 0 5.8 A 4 5.8 4 4.2 180 0 L 8 0" },
    { 0, 2, "M 0 10 L 0 0 D 0 13.6" },
    { 2.4, 1.6, "M 2.4 10 L 2.4 -1.4 Q 2.4 -4.3 -0.2 -4.2 D 2.4 13.6" },
    { 7.8, 1.5, "M 0 15 L 0 0 M 7.2 10 L 0 3.8 M 2.8 6.2 L 7.8 0" },
    { 2.2, 1.7, "M 0 15 L 0 2.4 Q 0 0 2.4 0" },                                           /* l */
    { 12.8, 1.9, "M 0 10 L 0 0 M 0 6.4 A 3.2 6.4 3.2 3.6 180 0 L 6.4 0 M 6.4 6.4 "
                 "A 9.6 6.4 3.2 3.6 180 0 L 12.8 0" },
    { 8, 1.9, "M 0 10 L 0 0 M 0 5.8 A 4 5.8 4 4.2 180 0 L 8 0" },
    { 9, 1.6, "O 4.5 5 4.5 5 0 360" },
    { 8.6, 1.8, "M 0 10 L 0 -4.6 O 4.3 5 4.3 5 0 360" },
    { 8.6, 1.8, "M 8.6 10 L 8.6 -4.6 O 4.3 5 4.3 5 0 360" },
    { 4.8, 1.4, "M 0 10 L 0 0 M 0 5.4 A 4.2 5.4 4.2 4.6 180 78" },
    { 7.2, 1.6, "O 3.6 7.45 3.2 2.55 32 270 A 3.6 2.45 3.6 2.45 90 -145" },               /* s */
    { 5, 1.3, "M 2 13.4 L 2 2.6 Q 2 0 5 0.1 M 0 10 L 5 10" },
    { 8, 1.9, "M 0 10 L 0 4.1 A 4 4.1 4 4.1 180 360 M 8 10 L 8 0" },
    { 8.2, 1.1, "M 0 10 L 4.1 0 L 8.2 10" },
    { 12, 1.2, "M 0 10 L 3 0 L 6 9.4 L 9 0 L 12 10" },
    { 7.8, 1.2, "M 0 10 L 7.8 0 M 7.8 10 L 0 0" },
    { 8.4, 1.1, "M 0 10 L 4.2 0.4 M 8.4 10 L 3.5 -2.4 Q 2.8 -4.3 0.8 -4.2" },
    { 7.6, 1.5, "M 0.3 10 L 7.4 10 L 0 0 L 7.6 0" },
    { 4, 1.6, "M 4 16 Q 1.8 16 1.8 13.6 L 1.8 8.4 Q 1.8 6.3 0 6.3 Q 1.8 6.3 1.8 4.2 L 1.8 -1 "
              "Q 1.8 -3.4 4 -3.4" },
    { 0, 2, "M 0 16 L 0 -3.6" },
    { 4, 1.6, "M 0 16 Q 2.2 16 2.2 13.6 L 2.2 8.4 Q 2.2 6.3 4 6.3 Q 2.2 6.3 2.2 4.2 L 2.2 -1 "
              "Q 2.2 -3.4 0 -3.4" },
    { 8.8, 1.8, "M 0 5.8 Q 2.2 9.2 4.4 6.8 Q 6.6 4.4 8.8 7.8" },                          /* ~ */
};
/* clang-format on */

/* What stands for a character that the font does not have. */
static const struct glyph box = { 7, 1.8, "M 0 0 L 7 0 L 7 12 L 0 12 L 0 0" };

/* Takes one character off the text; bytes that continue one are skipped. */
static const struct glyph *next_glyph(const char **text)
{
    unsigned char ch = (unsigned char)*(*text)++;
    if (ch >= 0x20 && ch < 0x7f) return &glyphs[ch - 0x20];
    while (((unsigned char)**text & 0xc0) == 0x80) (*text)++;
    return &box;
}

static double advance(const struct glyph *g) { return g->width + 2 * g->side; }

double qn__text_width(double size, int weight, const char *text)
{
    double units = 0;
    const char *end = text ? text + strnlen(text, LONGEST) : NULL;
    while (text && text < end) units += advance(next_glyph(&text)) + (weight == QN__BOLD ? 0.5 : 0);
    return units * size / EM;
}

/* The pen: where on the canvas the glyph's units are, and the stroke that is being drawn. */
struct pen {
    struct qn__canvas *c;
    double x, y, scale, cosine, sine, width;
    qn__color color;
    double at[2];
    bool down;
};

static void stroke_to(struct pen *p, double x, double y)
{
    double from[2] = { p->at[0], p->at[1] };
    p->at[0] = p->x + p->scale * (x * p->cosine - y * p->sine);
    p->at[1] = p->y - p->scale * (x * p->sine + y * p->cosine);
    if (p->down) qn__line(p->c, from[0], from[1], p->at[0], p->at[1], p->width, p->color, 1);
    p->down = true;
}

static void arc(struct pen *p, const double v[6])
{
    const double radian = 3.14159265358979323846 / 180;
    int pieces = (int)ceil(fabs(v[5] - v[4]) / 12);
    for (int i = 0; i <= pieces; i++) {
        double angle = (v[4] + (v[5] - v[4]) * i / pieces) * radian;
        stroke_to(p, v[0] + v[2] * cos(angle), v[1] + v[3] * sin(angle));
    }
}

/* last: the units where the stroke stands. */
static void curve(struct pen *p, const double last[2], const double v[4])
{
    for (int i = 1; i <= 6; i++) {
        double t = i / 6.0, a = (1 - t) * (1 - t), b = 2 * t * (1 - t), d = t * t;
        stroke_to(p, a * last[0] + b * v[0] + d * v[2], a * last[1] + b * v[1] + d * v[3]);
    }
}

/* The number at *s: digits with one decimal point, as the table above has them. */
static double number(const char **s)
{
    double value = 0, unit = 0;
    while (**s == ' ') (*s)++;
    bool negative = **s == '-';
    *s += negative;
    for (; (**s >= '0' && **s <= '9') || **s == '.'; (*s)++) {
        if (**s == '.') {
            unit = 1;
            continue;
        }
        value = value * 10 + (**s - '0');
        unit *= 10;
    }
    if (unit > 1) value /= unit;
    return negative ? -value : value;
}

static void draw_command(struct pen *p, char command, const double v[6], double last[2])
{
    if (command == 'M' || command == 'O' || command == 'D') p->down = false;
    if (command == 'M' || command == 'L') stroke_to(p, v[0], v[1]);
    if (command == 'O' || command == 'A') arc(p, v);
    if (command == 'Q') curve(p, last, v);
    if (command == 'D') {
        stroke_to(p, v[0], v[1]);
        qn__disc(p->c, p->at[0], p->at[1], p->width * 0.68, p->color, 1);
    }
    const double radian = 3.14159265358979323846 / 180;
    bool is_arc = command == 'O' || command == 'A';
    last[0] = is_arc ? v[0] + v[2] * cos(v[5] * radian) : command == 'Q' ? v[2] : v[0];
    last[1] = is_arc ? v[1] + v[3] * sin(v[5] * radian) : command == 'Q' ? v[3] : v[1];
}

static void draw_glyph(struct pen *p, const struct glyph *g)
{
    double v[6], last[2] = { 0, 0 };
    p->down = false;
    for (const char *s = g->path; *s;) {
        while (*s == ' ') s++;
        char command = *s++;
        int n = command == 'Q' ? 4 : command == 'O' || command == 'A' ? 6 : 2;
        do {
            for (int i = 0; i < n; i++) v[i] = number(&s);
            draw_command(p, command, v, last);
            while (*s == ' ') s++;
        } while (command == 'L' && *s && (*s < 'A' || *s > 'Z'));
    }
}

void qn__text_turned(struct qn__canvas *c, double x, double y, double size, int align, int weight, qn__color color,
                     double degrees, const char *text)
{
    const double radian = 3.14159265358979323846 / 180;
    if (!text) return;
    double scale = size / EM, total = qn__text_width(size, weight, text);
    double shift = align == QN__RIGHT ? total : align == QN__CENTER ? total / 2 : 0;
    /* Thin pens fade on small sizes: the stroke is kept at a pixel. */
    double width = fmax(scale * (weight == QN__BOLD ? 2.6 : 1.65), weight == QN__BOLD ? 1.35 : 0.95);
    struct pen p = { .c = c,
                     .scale = scale,
                     .cosine = cos(degrees * radian),
                     .sine = sin(degrees * radian),
                     .width = width,
                     .color = color };
    p.x = x - shift * p.cosine;
    p.y = y + shift * p.sine;
    const char *end = text + strnlen(text, LONGEST);
    while (text < end) {
        const struct glyph *g = next_glyph(&text);
        double step = (advance(g) + (weight == QN__BOLD ? 0.5 : 0)) * scale;
        p.x += g->side * scale * p.cosine;
        p.y -= g->side * scale * p.sine;
        draw_glyph(&p, g);
        p.x += (step - g->side * scale) * p.cosine;
        p.y -= (step - g->side * scale) * p.sine;
    }
}

void qn__text(struct qn__canvas *c, double x, double y, double size, int align, int weight, qn__color color,
              const char *text)
{
    qn__text_turned(c, x, y, size, align, weight, color, 0, text);
}

const char *qn__text_fit(char buf[128], double width, double size, int weight, const char *text)
{
    buf[0] = 0;
    if (!text) return buf;
    size_t n = strnlen(text, 124);
    memcpy(buf, text, n);
    buf[n] = 0;
    if (!text[n] && qn__text_width(size, weight, buf) <= width) return buf;
    do {
        while (n > 0 && ((unsigned char)buf[n - 1] & 0xc0) == 0x80) n--;
        n -= n > 0;
        memcpy(buf + n, "...", 4);
    } while (n > 0 && qn__text_width(size, weight, buf) > width);
    return buf;
}
