/* digits.c - drawn digits: strokes on a unit square, a random affine map, a round pen, noise.
 * Made to be easy to state and hard to mistake for a real data set; a small network reaches high
 * accuracy on it. */
#include "data.h"
#include <math.h>
#include <string.h>

enum { SIDE = 28, CLASSES = 10, MAX_POINTS = 24 };

/* Each digit is polylines through these points; x, y in 0..9 (x to the right, y down), ';' lifts
 * the pen. */
static const char *const strokes[CLASSES] = {
    "31 61 73 76 68 38 26 23 31",       "33 51 58;38 68", "23 31 61 73 75 28 78",
    "23 31 61 73 64 44;64 76 68 38 26", "61 25 75;61 68", "71 31 24 64 76 68 38 26",
    "61 33 26 38 68 76 64 26",          "21 71 48",       "31 61 73 64 34 23 31;34 26 38 68 76 64",
    "74 34 23 31 61 73 74 68",
};

struct segment {
    float ax, ay, bx, by;
};

static int parse(const char *s, struct segment out[MAX_POINTS])
{
    int n = 0;
    bool down = false;
    float x = 0, y = 0;
    for (; *s; s++) {
        if (*s == ';') down = false;
        if (*s < '0' || *s > '9') continue;
        float nx = (float)(s[0] - '0') / 9, ny = (float)(s[1] - '0') / 9;
        if (down && n < MAX_POINTS) out[n++] = (struct segment){ x, y, nx, ny };
        x = nx;
        y = ny;
        down = true;
        s++;
    }
    return n;
}

/* Uniform in [-a, a). */
static float spread(uint32_t w, float a) { return a * (2 * qn__unit_f32(w) - 1); }

/* Maps the unit square's points to pixels. */
static void distort(struct segment *s, int n, struct qn__words w, struct qn__words v)
{
    const float degree = 3.14159265f / 180;
    float angle = spread(w.w[0], 15 * degree), size = 20 * (0.975f + spread(w.w[1], 0.175f));
    float shear = spread(w.w[2], 0.2f), c = cosf(angle) * size, d = sinf(angle) * size;
    float ox = 13.5f + spread(v.w[0], 2.5f), oy = 13.5f + spread(v.w[1], 2.5f);
    for (int i = 0; i < n; i++) {
        float *p[2][2] = { { &s[i].ax, &s[i].ay }, { &s[i].bx, &s[i].by } };
        for (int k = 0; k < 2; k++) {
            float y = *p[k][1] - 0.5f, x = *p[k][0] - 0.5f + shear * y;
            *p[k][0] = c * x - d * y + ox;
            *p[k][1] = d * x + c * y + oy;
        }
    }
}

static float distance(const struct segment *s, float x, float y)
{
    float dx = s->bx - s->ax, dy = s->by - s->ay, length = dx * dx + dy * dy;
    float t = length > 0 ? ((x - s->ax) * dx + (y - s->ay) * dy) / length : 0;
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    float ex = x - s->ax - t * dx, ey = y - s->ay - t * dy;
    return sqrtf(ex * ex + ey * ey);
}

static void draw(uint8_t *out, int digit, uint64_t key, int64_t i)
{
    struct segment s[MAX_POINTS];
    uint32_t low = (uint32_t)i, high = (uint32_t)((uint64_t)i >> 32);
    int n = parse(strokes[digit], s);
    struct qn__words v = qn__philox(key, low, high, 1, 0), noise = { { 0 } };
    distort(s, n, qn__philox(key, low, high, 0, 0), v);
    float pen = 1.2f + spread(v.w[2], 0.4f), ink = 0.85f + spread(v.w[3], 0.15f);
    for (uint32_t k = 0; k < SIDE * SIDE; k++) {
        float near = 1e9f;
        for (int j = 0; j < n; j++) {
            float d = distance(&s[j], (float)(k % SIDE), (float)(k / SIDE));
            if (d < near) near = d;
        }
        float edge = pen + 0.5f - near; /* one pixel from full ink to none */
        edge = edge < 0 ? 0 : edge > 1 ? 1 : edge;
        if (k % 4 == 0) noise = qn__philox(key, low, high, 2, k / 4);
        float value = edge * ink + 0.08f * qn__unit_f32(noise.w[k % 4]);
        out[k] = (uint8_t)(255 * (value > 1 ? 1 : value) + 0.5f);
    }
}

qn_status qn_dataset_digits(qn_dataset **out, int64_t n, uint64_t seed, qn_error *err)
{
    enum { MOST = 10000000 };
    uint64_t key = qn__stream_key(seed, qn__hash_str("digits"));
    *out = NULL;
    if (n < 1 || n > MOST)
        return qn__fail(err, 2301, QN_AT_FIELD("digits"), "%lld; expected 1..%d", (long long)n, MOST);
    qn_array x = { .dtype = QN_U8, .rank = 3, .dim = { n, SIDE, SIDE } };
    qn_array y = { .dtype = QN_U8, .rank = 1, .dim = { n } };
    qn_status status = qn__array_alloc(&x, "digits", err);
    if (!status) status = qn__array_alloc(&y, "digits", err);
    for (int64_t i = 0; !status && i < n; i++) {
        ((uint8_t *)y.data)[i] = (uint8_t)(i % CLASSES);
        draw((uint8_t *)x.data + i * SIDE * SIDE, (int)(i % CLASSES), key, i);
    }
    const qn_dataset_options options = { .n_classes = CLASSES, .memory_limit = SIZE_MAX };
    if (!status) status = qn_dataset_from_arrays(out, &x, &y, "drawn digits", &options, err);
    qn_array_free(&x);
    qn_array_free(&y);
    return status;
}
