/* cmd_doctor.c - `quern doctor`: versions, and small computations whose results are known. */
#include "answers.h"
#include "libraries.h"
#include "../core/file.h"
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMAGES "/usr/share/datasets/fashion-mnist"

enum outcome { GOOD, NOTE, FAILED };

struct result {
    const char *name;
    enum outcome outcome;
    char text[300]; /* what was found */
    const char *remedy;
};

__attribute__((format(printf, 3, 4))) static void set(struct result *r, enum outcome outcome, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    r->outcome = outcome;
    vsnprintf(r->text, sizeof r->text, format, args);
    va_end(args);
}

static void set_error(struct result *r, const qn_error *err) { set(r, FAILED, "%.290s", err->text); }

/* ---- matrix product ---------------------------------------------------------------------------------------------- */

enum { M = 37, K = 65, N = 29 };

static void fill(float *x, int n, int step)
{
    for (int i = 0; i < n; i++) x[i] = (float)((i * step) % 19 - 9) / 7;
}

/* The largest error in units of what rounding may do: K products of floats, each off by half a unit at most. */
static double worst(const float *a, const float *b, const float *c)
{
    double most = 0;
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double sum = 0, size = 0;
            for (int k = 0; k < K; k++) {
                double term = (double)a[i * K + k] * (double)b[k * N + j];
                sum += term;
                size += fabs(term);
            }
            double bound = (K + 1) * ldexp(1, -24) * size + 1e-30;
            most = fmax(most, fabs((double)c[i * N + j] - sum) / bound);
        }
    return most;
}

static qn_status product(double *out, qn_graph *g, qn_store *s, qn_program **p, qn_error *err)
{
    qn_t a = qn_input(g, "a", QN_F32, 2, (int64_t[]){ M, K }), b = qn_input(g, "b", QN_F32, 2, (int64_t[]){ K, N });
    qn_t c = qn_matmul(g, a, b, NULL);
    QN_TRY(qn_compile(p, g, &c, 1, s, NULL, err));
    QN_TRY(qn_program_load(*p, err));
    float *x = qn_program_data(*p, a), *y = qn_program_data(*p, b);
    fill(x, M * K, 7);
    fill(y, K * N, 11);
    QN_TRY(qn_program_run(*p, QN_MICRO, err));
    QN_TRY(qn_program_wait(*p, QN_MICRO, 0, err));
    *out = worst(x, y, qn_program_data(*p, c));
    return QN_OK;
}

/* The product on a device: how far off in units of what rounding allows. */
static qn_status product_on(double *off, const char *device, qn_error *err)
{
    qn_graph *g = NULL;
    qn_store *s = NULL;
    qn_program *p = NULL;
    qn_status status = qn_graph_new(&g, NULL) ? qn__nomem(err, "graph", 0) : QN_OK;
    if (!status) status = qn_store_new(&s, device, 1, NULL, err);
    if (!status) status = product(off, g, s, &p, err);
    qn_program_free(p);
    qn_graph_free(g);
    qn_store_free(s);
    return status;
}

static void check_product(struct result *r)
{
    qn_error err = { 0 };
    double off = 0;
    if (product_on(&off, "cpu", &err))
        set_error(r, &err);
    else
        set(r, off <= 1 ? GOOD : FAILED, "[%d,%d] x [%d,%d]: largest error %.3f of what rounding allows", M, K, K, N,
            off);
}

/* That there is none is no fault. */
static void check_gpus(struct result *r)
{
    qn_device_info gpu;
    qn_error err = { 0 };
    double off = 0, most = 0;
    char name[128] = "";
    int n = 0;
    for (; qn_device_gpu(&gpu, n, &err) == QN_OK; n++) {
        memcpy(name, gpu.name, sizeof name);
        if (product_on(&off, gpu.device, &err)) {
            set_error(r, &err);
            return;
        }
        most = fmax(most, off);
    }
    if (n == 0)
        set(r, NOTE, "%.290s", err.text);
    else
        set(r, most <= 1 ? GOOD : FAILED,
            "%d, the last one %.80s: the product's largest error %.3f of what rounding "
            "allows",
            n, qn__show(name).s, most);
}

/* ---- files ----------------------------------------------------------------------------------- */

static const char *scratch(char *buf, size_t size, const char *name)
{
    const char *dir = getenv("TMPDIR");
    snprintf(buf, size, "%s/quern-doctor-%ld%s", dir && *dir ? dir : "/tmp", (long)getpid(), name);
    return buf;
}

static void check_png(struct result *r)
{
    enum { H = 13, W = 17 };
    uint8_t pixels[H * W * 3];
    char path[4096];
    qn_array back = { 0 };
    qn_error err = { 0 };
    for (int i = 0; i < H * W * 3; i++) pixels[i] = (uint8_t)(i * 37 + i / 5);
    scratch(path, sizeof path, ".png");
    qn_status status = qn_png_write(path, pixels, W, H, 3, &err);
    if (!status) status = qn_png_read(&back, path, NULL, &err);
    unlink(path);
    int wrong = 0;
    for (int i = 0; !status && i < H * W * 3; i++) /* planes against interleaved pixels */
        wrong += ((const uint8_t *)back.data)[(i % 3) * H * W + i / 3] != pixels[i];
    if (status)
        set_error(r, &err);
    else
        set(r, wrong ? FAILED : GOOD, "%dx%d pixels written and read back, %d differ", W, H, wrong);
    qn_array_free(&back);
}

static void check_file(struct result *r)
{
    enum { BYTES = 100000 };
    char path[4096], *back = NULL, *bytes = malloc(BYTES);
    size_t n = 0;
    qn_error err = { 0 };
    scratch(path, sizeof path, ".bin");
    for (int i = 0; bytes && i < BYTES; i++) bytes[i] = (char)(i * 31 + i / 256);
    qn_status status = bytes ? qn__file_replace(path, bytes, BYTES, &err) : qn__nomem(&err, "file", BYTES);
    if (!status) status = qn__file_read_all(NULL, path, BYTES, &back, &n, &err);
    unlink(path);
    if (status)
        set_error(r, &err);
    else if (n != BYTES || memcmp(bytes, back, n) != 0)
        set(r, FAILED, "%zu bytes came back, not those that were written", n);
    else
        set(r, GOOD, "%d bytes written, synced, renamed and read back in %s", BYTES,
            getenv("TMPDIR") ? "$TMPDIR" : "/tmp");
    if (back) qn__free(NULL, back, n + 1);
    free(bytes);
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* Under a locale with a decimal comma, if one is installed, numbers must still have a point. */
static void check_locale(struct result *r)
{
    static const char *const names[] = { "de_DE.UTF-8", "fr_FR.UTF-8", "es_ES.UTF-8", "de_DE", "fr_FR", "pl_PL.UTF-8" };
    locale_t comma = (locale_t)0, before = (locale_t)0;
    char text[32];
    double x = 0;
    size_t i = 0;
    for (; i < sizeof names / sizeof names[0] && !comma; i++) comma = newlocale(LC_ALL_MASK, names[i], (locale_t)0);
    if (comma) before = uselocale(comma);
    bool good = qn__parse_f64("2.5", false, &x) && x == 2.5 && strcmp(qn__format_f64(text, 2.5), "2.5") == 0;
    good = good && !qn__parse_f64("2,5", false, &x);
    if (comma) uselocale(before);
    if (comma) freelocale(comma);
    if (comma)
        set(r, good ? GOOD : FAILED, "2.5 is written and read with a point under %s", names[i - 1]);
    else
        set(r, good ? GOOD : FAILED, "2.5 is written and read with a point (no locale with a comma is installed)");
}

static void check_images(struct result *r)
{
    qn_array labels = { 0 };
    qn_error err = { 0 };
    struct stat st;
    if (stat(IMAGES "/t10k-labels-idx1-ubyte.gz", &st) != 0)
        set(r, NOTE, "not installed; the demo draws synthetic digits");
    else if (qn_idx_read(&labels, IMAGES "/t10k-labels-idx1-ubyte.gz", &err))
        set_error(r, &err);
    else
        set(r, labels.rank == 1 && labels.dim[0] == 10000 ? GOOD : FAILED, "%lld test labels in " IMAGES,
            (long long)labels.dim[0]);
    qn_array_free(&labels);
}

/* ---- the command ----------------------------------------------------------------------------- */

static const char *outcome_name(enum outcome o) { return o == GOOD ? "ok" : o == NOTE ? "note" : "failed"; }

static void print_text(const struct library *l, const struct result *r, int n)
{
    printf("%-14s %-12s %-12s\n", "library", "built with", "loaded");
    for (int i = 0; i < CLI_LIBRARIES; i++)
        printf("%-14s %-12s %-12s %s%s\n", l[i].name, l[i].built, l[i].loaded, l[i].good ? "ok" : "failed: install ",
               l[i].good ? "" : l[i].package);
    printf("%-14s %s\n%-14s OpenMP %d, %d threads\n\n", "compiler", __VERSION__, "threads", _OPENMP,
           omp_get_max_threads());
    for (int i = 0; i < n; i++) {
        printf("%-14s %-6s %s\n", r[i].name, outcome_name(r[i].outcome), r[i].text);
        if (r[i].outcome != GOOD) printf("%-14s        %s\n", "", r[i].remedy);
    }
}

static int print_json(const struct library *l, const struct result *r, int n)
{
    json_t *libraries = json_array(), *checks = json_array();
    for (int i = 0; i < CLI_LIBRARIES; i++)
        json_array_append_new(libraries, json_pack("{s:s, s:s, s:o, s:b}", "name", l[i].name, "built", l[i].built,
                                                   "loaded", cli_text(l[i].loaded), "good", l[i].good));
    for (int i = 0; i < n; i++)
        json_array_append_new(checks, json_pack("{s:s, s:s, s:o, s:s}", "name", r[i].name, "result",
                                                outcome_name(r[i].outcome), "text", cli_text(r[i].text), "remedy",
                                                r[i].outcome == GOOD ? "" : r[i].remedy));
    return cli_print_json(json_pack("{s:o, s:s, s:i, s:o}", "libraries", libraries, "compiler", __VERSION__, "threads",
                                    omp_get_max_threads(), "checks", checks),
                          2);
}

static int verdict(const struct library *l, const struct result *r, int n)
{
    qn_error err;
    int good = 0;
    if (cli_check_libraries(&err)) return cli_fail(&err);
    for (int i = 0; i < n; i++) good += r[i].outcome != FAILED;
    if (good == n) return 0;
    for (int i = 0; i < n; i++)
        if (r[i].outcome == FAILED) {
            qn__fail(&err, 7002, QN_AT_FIELD(r[i].name), "self-check failed: %.200s", r[i].text);
            return cli_fail(&err);
        }
    return l[0].good ? 0 : 7;
}

int cmd_doctor(int argc, char **argv)
{
    struct options o;
    struct library l[CLI_LIBRARIES];
    struct result r[] = {
        { .name = "matrix product", .remedy = "reinstall libdnnl-dev, then make clean all" },
        { .name = "PNG", .remedy = "see that $TMPDIR can be written; reinstall libpng-dev" },
        { .name = "files", .remedy = "set TMPDIR to a directory that can be written and has room" },
        { .name = "numbers", .remedy = "please report this; LC_ALL=C is a way round" },
        { .name = "fashion-mnist", .remedy = "apt-get install dataset-fashion-mnist" },
        { .name = "GPUs", .remedy = "networks train on the CPU too" },
    };
    enum { CHECKS = sizeof r / sizeof r[0] };
    static void (*const check[CHECKS])(struct result *) = { check_product, check_png,    check_file,
                                                            check_locale,  check_images, check_gpus };
    int code = cli_parse(&cli_doctor, argc, argv, &o);
    if (code >= 0) return code;
    cli_libraries(l);
    for (int i = 0; i < CHECKS; i++) check[i](&r[i]);
    if (o.json)
        code = print_json(l, r, CHECKS);
    else
        print_text(l, r, CHECKS);
    fflush(stdout);
    if (code < 0) code = 0;
    if (!code) code = verdict(l, r, CHECKS);
    cli_free(&o);
    return cli_finish(code);
}
