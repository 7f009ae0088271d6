/* libraries.c - see libraries.h. */
#include "libraries.h"
#include <dnnl.h>
#include <jansson.h>
#include <png.h>
#include <string.h>
#include <zlib.h>

/* The numbers of "2.6.3"; missing ones are 0. */
static void parts_of(const char *version, int64_t out[3])
{
    memset(out, 0, 3 * sizeof *out);
    for (int i = 0; i < 3; i++) {
        while (*version >= '0' && *version <= '9' && out[i] < 1000000) out[i] = 10 * out[i] + (*version++ - '0');
        if (*version != '.') return;
        version++;
    }
}

static bool good_version(const char *built, const char *loaded)
{
    int64_t b[3], l[3];
    parts_of(built, b);
    parts_of(loaded, l);
    if (l[0] != b[0]) return false;
    return l[1] > b[1] || (l[1] == b[1] && l[2] >= b[2]);
}

static void add(struct library *l, const char *name, const char *built, const char *loaded, const char *package)
{
    l->name = name;
    l->package = package;
    snprintf(l->built, sizeof l->built, "%s", built);
    snprintf(l->loaded, sizeof l->loaded, "%s", loaded ? loaded : "none");
    l->good = good_version(l->built, l->loaded);
}

static const char *dnnl_text(char buf[48], int major, int minor, int patch)
{
    snprintf(buf, 48, "%d.%d.%d", major, minor, patch);
    return buf;
}

void cli_libraries(struct library list[CLI_LIBRARIES])
{
    char built[48], loaded[48];
    const dnnl_version_t *dnnl = dnnl_version();
    add(&list[0], "quern", QN_VERSION, qn_version(), "quern");
    add(&list[1], "oneDNN", dnnl_text(built, DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR, DNNL_VERSION_PATCH),
        dnnl_text(loaded, dnnl->major, dnnl->minor, dnnl->patch), "libdnnl-dev");
    add(&list[2], "libpng", PNG_LIBPNG_VER_STRING, png_get_libpng_ver(NULL), "libpng-dev");
    add(&list[3], "zlib", ZLIB_VERSION, zlibVersion(), "zlib1g-dev");
    add(&list[4], "jansson", JANSSON_VERSION, jansson_version_str(), "libjansson-dev");
}

qn_status cli_check_libraries(qn_error *err)
{
    struct library list[CLI_LIBRARIES];
    cli_libraries(list);
    for (int i = 0; i < CLI_LIBRARIES; i++)
        if (!list[i].good)
            return qn__fail(err, 7002, QN_AT_FIELD(list[i].name),
                            "version %s is loaded; expected %s or later of the same major version; install %s, or see "
                            "quern doctor",
                            list[i].loaded, list[i].built, list[i].package);
    return QN_OK;
}
