/* augment.c - random changes to training images. Every draw is Philox at (key; epoch, sample,
 * purpose), so the pixels do not depend on which thread made them, nor on what was drawn before. */
#include "data.h"
#include <math.h>
#include <string.h>

/* What a block of four words is used for; the last word of the counter. */
enum purpose { GEOMETRY, PLACE, LIGHT, ERASE, ERASE_PLACE, MIXUP };

static struct qn__words draw(uint64_t key, int64_t epoch, int64_t sample, enum purpose p)
{
    return qn__philox(key, (uint32_t)sample, (uint32_t)((uint64_t)sample >> 32), (uint32_t)epoch, (uint32_t)p);
}

/* Uniform in [-1, 1). */
static double both_ways(uint32_t w) { return 2 * qn__unit_f64(w) - 1; }

bool qn__augment_any(const qn_augment *a)
{
    return a->flip > 0 || a->rotate > 0 || a->scale > 0 || a->crop > 0 || a->brightness > 0 || a->contrast > 0 ||
           a->erase > 0;
}

/* ---- geometry ----------------------------------------------------------------------------- */

/* Output pixel (x, y) is taken from (xx x + xy y + x0, yx x + yy y + y0). */
struct map {
    float xx, xy, x0, yx, yy, y0;
};

/* out(x, y) = in(sx, y) with sx = dx +- x: no arithmetic on pixels. */
static void shift_plane(float *out, const float *in, int H, int W, int dx, int dy, bool flip)
{
    for (int y = 0; y < H; y++, out += W) {
        int sy = y + dy;
        memset(out, 0, (size_t)W * sizeof *out);
        if (sy < 0 || sy >= H) continue;
        const float *row = in + (int64_t)sy * W;
        int low = dx < 0 ? -dx : 0, high = dx > 0 ? W - dx : W;
        if (flip)
            for (int x = low; x < high; x++) out[x] = row[W - 1 - (x + dx)];
        else if (high > low)
            memcpy(out + low, row + low + dx, (size_t)(high - low) * sizeof *out);
    }
}

static inline float at(const float *in, int H, int W, int y, int x)
{
    return (unsigned)y < (unsigned)H && (unsigned)x < (unsigned)W ? in[(int64_t)y * W + x] : 0;
}

static void warp_plane(float *out, const float *in, int H, int W, const struct map *m)
{
    for (int y = 0; y < H; y++) {
        for (int x = 0; x < W; x++) {
            float fx = m->xx * (float)x + m->xy * (float)y + m->x0, fy = m->yx * (float)x + m->yy * (float)y + m->y0;
            if (!(fx > -1 && fy > -1 && fx < (float)W && fy < (float)H)) { /* also what is not a number */
                *out++ = 0;
                continue;
            }
            int sx = (int)(fx + 1) - 1, sy = (int)(fy + 1) - 1; /* floor, as both are above -1 */
            float tx = fx - (float)sx, ty = fy - (float)sy;
            float p00, p01, p10, p11;
            if (sx >= 0 && sy >= 0 && sx + 1 < W && sy + 1 < H) {
                const float *p = in + (int64_t)sy * W + sx;
                p00 = p[0], p01 = p[1], p10 = p[W], p11 = p[W + 1];
            } else {
                p00 = at(in, H, W, sy, sx), p01 = at(in, H, W, sy, sx + 1);
                p10 = at(in, H, W, sy + 1, sx), p11 = at(in, H, W, sy + 1, sx + 1);
            }
            float top = p00 + tx * (p01 - p00), low = p10 + tx * (p11 - p10);
            *out++ = top + ty * (low - top);
        }
    }
}

/* Crop offset (dx, dy), then the inverse of flip, scale and rotation about the centre. */
static struct map make_map(double angle, double scale, bool flip, int dx, int dy, int H, int W)
{
    double cx = 0.5 * (W - 1), cy = 0.5 * (H - 1), c = cos(angle) / scale, s = sin(angle) / scale;
    double ox = dx - cx, oy = dy - cy, sign = flip ? -1 : 1;
    return (struct map){ .xx = (float)(sign * c),
                         .xy = (float)(sign * s),
                         .x0 = (float)(sign * (c * ox + s * oy) + cx),
                         .yx = (float)-s,
                         .yy = (float)c,
                         .y0 = (float)(c * oy - s * ox + cy) };
}

static void geometry(const qn_augment *a, uint64_t key, int64_t epoch, int64_t sample, float *x, float *scratch,
                     const int64_t dim[3])
{
    const double degree = 3.14159265358979323846 / 180;
    struct qn__words w = draw(key, epoch, sample, GEOMETRY), v = draw(key, epoch, sample, PLACE);
    int C = (int)dim[0], H = (int)dim[1], W = (int)dim[2], span = 2 * a->crop + 1;
    bool flip = qn__unit_f64(w.w[0]) < a->flip;
    double angle = a->rotate * degree * both_ways(w.w[1]), scale = 1 + a->scale * both_ways(w.w[2]);
    int dx = (int)((uint64_t)v.w[0] * (uint32_t)span >> 32) - a->crop;
    int dy = (int)((uint64_t)v.w[1] * (uint32_t)span >> 32) - a->crop;
    bool warp = a->rotate > 0 || a->scale > 0;
    if (!warp && !flip && !dx && !dy) return;
    int64_t plane = (int64_t)H * W;
    struct map m = make_map(angle, scale, flip, dx, dy, H, W);
    for (int c = 0; c < C; c++) {
        memcpy(scratch, x + c * plane, (size_t)plane * sizeof *x);
        if (warp)
            warp_plane(x + c * plane, scratch, H, W, &m);
        else
            shift_plane(x + c * plane, scratch, H, W, dx, dy, flip);
    }
}

/* ---- light and erasing -------------------------------------------------------------------- */

static void light(const qn_augment *a, uint64_t key, int64_t epoch, int64_t sample, float *x, int64_t n)
{
    struct qn__words w = draw(key, epoch, sample, LIGHT);
    float factor = (float)(1 + a->contrast * both_ways(w.w[0])), sum = 0;
    for (int64_t i = 0; a->contrast > 0 && i < n; i++) sum += x[i];
    float mean = sum / (float)n, add = mean - factor * mean + (float)(a->brightness * both_ways(w.w[1]));
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] = factor * x[i] + add;
}

/* Area and shape as in Zhong et al., "Random Erasing Data Augmentation", AAAI 2020; filled with
 * zeros. */
static void erase(const qn_augment *a, uint64_t key, int64_t epoch, int64_t sample, float *x, const int64_t dim[3])
{
    const double least = 0.02, most = a->erase_area > 0 ? a->erase_area : 0.33, log_ratio = 1.2039728043259361;
    struct qn__words w = draw(key, epoch, sample, ERASE), v = draw(key, epoch, sample, ERASE_PLACE);
    if (qn__unit_f64(w.w[0]) >= a->erase) return;
    int64_t C = dim[0], H = dim[1], W = dim[2];
    double area = (least + (most - least) * qn__unit_f64(w.w[1])) * (double)(H * W);
    double ratio = exp(log_ratio * both_ways(w.w[2])); /* 0.3 .. 1/0.3 */
    int64_t h = llround(sqrt(area * ratio)), width = llround(sqrt(area / ratio));
    h = h < 1 ? 1 : h > H ? H : h;
    width = width < 1 ? 1 : width > W ? W : width;
    int64_t y0 = (int64_t)((uint64_t)v.w[0] * (uint64_t)(H - h + 1) >> 32);
    int64_t x0 = (int64_t)((uint64_t)v.w[1] * (uint64_t)(W - width + 1) >> 32);
    for (int64_t c = 0; c < C; c++)
        for (int64_t y = y0; y < y0 + h; y++) memset(x + (c * H + y) * W + x0, 0, (size_t)width * sizeof *x);
}

void qn__augment(const qn_augment *a, uint64_t key, int64_t epoch, int64_t sample, float *x, float *scratch,
                 const int64_t dim[3])
{
    if (a->flip > 0 || a->rotate > 0 || a->scale > 0 || a->crop > 0) geometry(a, key, epoch, sample, x, scratch, dim);
    if (a->brightness > 0 || a->contrast > 0) light(a, key, epoch, sample, x, dim[0] * dim[1] * dim[2]);
    if (a->erase > 0) erase(a, key, epoch, sample, x, dim);
}

/* ---- mixup -------------------------------------------------------------------------------- */

/* Words of an endless stream for one position. */
struct stream {
    uint64_t key;
    int64_t epoch, position;
    uint32_t block;
    int left;
    struct qn__words w;
};

static double next_unit(struct stream *s) /* in (0, 1) */
{
    if (!s->left) {
        s->w = qn__philox(s->key, (uint32_t)s->position, (uint32_t)((uint64_t)s->position >> 32), (uint32_t)s->epoch,
                          (uint32_t)MIXUP + 8 * s->block++);
        s->left = 4;
    }
    return qn__unit_f64(s->w.w[--s->left]) + 0x1p-33;
}

/* Marsaglia, Tsang, "A Simple Method for Generating Gamma Variables", ACM TOMS 26(3), 2000.
 * Returns the logarithm, which a small alpha does not underflow. The loop accepts with
 * probability above 0.95 a round; its bound only makes that certain. */
static double log_gamma_draw(struct stream *s, double alpha)
{
    enum { ROUNDS = 1000 };
    double boost = 0, d, c;
    if (alpha < 1) {
        boost = log(next_unit(s)) / alpha;
        alpha += 1;
    }
    d = alpha - 1.0 / 3;
    c = 1 / sqrt(9 * d);
    for (int round = 0; round < ROUNDS; round++) {
        double r = sqrt(-2 * log(next_unit(s))), z = r * cos(6.283185307179586 * next_unit(s));
        double v = 1 + c * z, u = next_unit(s);
        if (v <= 0) continue;
        v = v * v * v;
        if (log(u) < 0.5 * z * z + d - d * v + d * log(v)) return log(d * v) + boost;
    }
    return log(d) + boost;
}

float qn__mixup_lambda(double alpha, uint64_t key, int64_t epoch, int64_t position)
{
    struct stream s = { .key = key, .epoch = epoch, .position = position };
    double a = log_gamma_draw(&s, alpha), b = log_gamma_draw(&s, alpha);
    return (float)(1 / (1 + exp(b - a)));
}
