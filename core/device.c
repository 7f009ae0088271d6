/* device.c - finding and opening what computes: the CPU, or a GPU through its plugin. */
#include "device.h"
#include "plugin.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH = 4096 };
#define PLUGIN "libquern_cuda.so"
#define DRIVER "libcuda.so.1"

/* ---- finding the plugin ---------------------------------------------------------------------------------- */

/* DIR of "DIR/file" + place + the plugin, if there is such a file. */
static bool beside(char out[PATH], const char *file, const char *place)
{
    const char *slash = strrchr(file, '/');
    int n = slash ? snprintf(out, PATH, "%.*s/%s%s", (int)(slash - file), file, place, PLUGIN) : -1;
    return n > 0 && n < PATH && access(out, R_OK) == 0;
}

/* Path of the plugin: as the caller said, else beside the library or the program, or in lib of the installation. A
 * bare name is left to the system's search. */
static void find_plugin(char out[PATH])
{
    static const char *const places[] = { "", "../lib/" };
    char exe[PATH] = "";
    Dl_info self;
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = 0;
    bool known = dladdr(/* an address in this library */ (const void *)qn__operators, &self) && self.dli_fname;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if ((known && beside(out, self.dli_fname, places[i])) || beside(out, exe, places[i])) return;
    snprintf(out, PATH, "%s", PLUGIN);
}

/* why: as dlerror tells it, mostly "FILE: what is wrong". */
static qn_status no_plugin(const char *path, const char *why, qn_error *err)
{
    char text[200];
    size_t n = strlen(path);
    if (strcmp(path, PLUGIN) == 0 && strstr(why, PLUGIN))
        return qn__fail(err, 7001, QN_AT_FIELD("cuda"),
                        PLUGIN " not found beside quern or in its lib folder; expected the CUDA plugin; build it with "
                               "\"make cuda\", or use --device=cpu");
    if (strncmp(why, path, n) == 0 && why[n] == ':') why += n + 1 + (why[n + 1] == ' ');
    return qn__fail(err, 7002, QN_AT_FILE(path),
                    "%s; expected the CUDA plugin and the libraries that it was built with; install them or set "
                    "LD_LIBRARY_PATH to where they are, or use --device=cpu",
                    qn__escape(text, sizeof text, why, 160));
}

/* The driver first: without one the plugin's libraries, hundreds of megabytes, would be opened for nothing. */
static qn_status check_driver(qn_error *err)
{
    void *driver = dlopen(DRIVER, RTLD_LAZY | RTLD_LOCAL);
    if (!driver)
        return qn__fail(err, 7001, QN_AT_FIELD("cuda"),
                        "no device (" DRIVER " not found); expected an NVIDIA driver; "
                        "install it, or use --device=cpu");
    dlclose(driver);
    return QN_OK;
}

static qn_status check_plugin(const struct qn__plugin *p, const char *path, qn_error *err)
{
    const struct qn__where *at = QN_AT_FILE(path);
    if (!p) return qn__fail(err, 7002, at, "no qn__cuda_plugin in it; expected a CUDA plugin of Quern " QN_VERSION);
    if (p->abi != QN_PLUGIN_ABI || p->bytes != sizeof *p)
        return qn__fail(err, 7002, at,
                        "plugin interface %u of %u bytes; expected %d of %zu; build it again with \"make "
                        "cuda\"",
                        p->abi, p->bytes, QN_PLUGIN_ABI, sizeof *p);
    if (strcmp(p->version, QN_VERSION) != 0)
        return qn__fail(err, 7002, at, "plugin of Quern %s; expected " QN_VERSION "; build it again with \"make cuda\"",
                        qn__show(p->version).s);
    uint64_t theirs = qn__hash_str(p->operators), ours = qn__hash_str(qn__operators);
    if (theirs != ours || p->step_bytes != sizeof(struct qn__step) || p->api_bytes != sizeof(struct qn__device_api))
        return qn__fail(err, 7002, at,
                        "plugin of operators %016llx; expected %016llx; build it again with \"make cuda\"",
                        (unsigned long long)theirs, (unsigned long long)ours);
    return QN_OK;
}

/* It stays in memory once it is opened: the libraries behind it do not survive being closed and opened again. */
static qn_status open_plugin(const struct qn__backend **out, bool driver, qn_error *err)
{
    const char *chosen = getenv("QN_CUDA_PLUGIN");
    char path[PATH];
    if (chosen && *chosen)
        snprintf(path, sizeof path, "%s", chosen);
    else
        find_plugin(path);
    if (driver && !(chosen && *chosen) && strchr(path, '/')) QN_TRY(check_driver(err));
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library) {
        const char *why = dlerror();
        return no_plugin(path, why ? why : "", err);
    }
    const struct qn__plugin *plugin = dlsym(library, "qn__cuda_plugin");
    qn_status status = check_plugin(plugin, path, err);
    if (!status) *out = plugin->backend;
    dlclose(library);
    return status;
}

/* ---- names ------------------------------------------------------------------------------------------------- */

/* Index of "cuda" or "cuda:N"; false for any other text. */
static bool gpu_index(const char *name, int *out)
{
    int64_t i = 0;
    if (strncmp(name, "cuda", 4) != 0 || (name[4] && name[4] != ':')) return false;
    if (name[4] && (name[5] < '0' || name[5] > '9' || !qn__parse_i64(name + 5, &i) || i > 1023)) return false;
    *out = (int)i;
    return true;
}

static qn_status find_gpu(const struct qn__backend **backend, int index, qn_error *err)
{
    int n = 0;
    QN_TRY(open_plugin(backend, true, err));
    QN_TRY((*backend)->device->count(&n, err));
    if (index < n) return QN_OK;
    return n == 1 ? qn__fail(err, 7001, QN_AT_FIELD("cuda"), "no GPU %d; expected cuda:0, the only one", index)
                  : qn__fail(err, 7001, QN_AT_FIELD("cuda"), "no GPU %d; expected cuda:0 to cuda:%d", index, n - 1);
}

qn_status qn_device_gpu(qn_device_info *out, int i, qn_error *err)
{
    const struct qn__backend *backend;
    struct qn__device_info info;
    memset(out, 0, sizeof *out);
    QN_TRY(find_gpu(&backend, i < 0 ? 1024 : i, err));
    QN_TRY(backend->device->info(i, &info, err));
    snprintf(out->device, sizeof out->device, "%s:%d", backend->name, i);
    snprintf(out->name, sizeof out->name, "%s", info.name);
    out->capability = info.gpu.capability;
    out->multiprocessors = info.gpu.multiprocessors;
    out->memory = info.memory;
    out->free = info.free;
    return QN_OK;
}

/* Whether all is there that a network may need: cuDNN is else only missed by the first convolution. */
static qn_status is_complete(const struct qn__device_api *api, int index, qn_error *err)
{
    struct qn__device *d;
    struct qn__identity id;
    QN_TRY(api->open(&d, index, &qn__std_alloc, err));
    qn_status status = api->identity(d, &id, err);
    api->close(d);
    if (status || id.dnn) return status;
    return qn__fail(err, 7002, QN_AT_FIELD("cuda"),
                    "no libcudnn.so.9, which convolutions need; expected cuDNN 9; install it, or use --device=cuda for "
                    "a network without convolutions");
}

/* The first GPU that can be used: one that is too old, that the plugin has no code for or that another process has to
 * itself is passed over. *err: of the first. */
static qn_status first_gpu(const struct qn__backend **backend, int *index, qn_error *err)
{
    qn_error other;
    qn_status first = QN_OK;
    int n = 0;
    QN_TRY(open_plugin(backend, true, err));
    QN_TRY((*backend)->device->count(&n, err));
    for (int i = 0; i < n; i++) {
        qn_status status = is_complete((*backend)->device, i, i ? &other : err);
        *index = i;
        if (!status) return QN_OK;
        if (i == 0) first = status;
    }
    return first ? first : QN_EDEVICE;
}

qn_status qn_device_choose(char out[QN_DEVICE_NAME], const char *name, qn_error *why, qn_error *err)
{
    const struct qn__backend *backend;
    qn_error reason = { 0 };
    int index = 0;
    bool automatic = strcmp(name, "auto") == 0;
    if (why) memset(why, 0, sizeof *why);
    snprintf(out, QN_DEVICE_NAME, "cpu");
    if (strcmp(name, "cpu") == 0) return QN_OK;
    if (!automatic && !gpu_index(name, &index))
        return qn__fail(err, 2001, QN_AT_FIELD("device"), "\"%s\"; expected auto, cpu, cuda or cuda:0",
                        qn__show(name).s);
    qn_status status = automatic ? first_gpu(&backend, &index, &reason) : find_gpu(&backend, index, &reason);
    if (!status) snprintf(out, QN_DEVICE_NAME, "%s:%d", backend->name, index);
    if (automatic && status && why) *why = reason;
    if (!automatic && status && err) *err = reason;
    return automatic ? QN_OK : status;
}

/* ---- opening ------------------------------------------------------------------------------------------------ */

static qn_status open_gpu(struct qn__gpu_device **out, const char *name, const qn_alloc *alloc, qn_error *err)
{
    const struct qn__backend *backend;
    int index = 0;
    gpu_index(name, &index);
    QN_TRY(find_gpu(&backend, index, err));
    struct qn__gpu_device *d = qn__calloc(alloc, 1, sizeof *d);
    if (!d) return qn__nomem(err, "device", sizeof *d);
    d->alloc = *alloc;
    d->refs = 1;
    d->backend = backend;
    d->api = backend->device;
    snprintf(d->name, sizeof d->name, "%s", name);
    qn_status status = d->api->open(&d->device, index, &d->alloc, err);
    if (status)
        qn__free(alloc, d, sizeof *d);
    else
        *out = d;
    return status;
}

qn_status qn__device_open(struct qn__gpu_device **out, const char *name, const qn_alloc *alloc, qn_error *err)
{
    char chosen[QN_DEVICE_NAME];
    *out = NULL;
    QN_TRY(qn_device_choose(chosen, name, NULL, err));
    return strcmp(chosen, "cpu") == 0 ? QN_OK : open_gpu(out, chosen, alloc ? alloc : &qn__std_alloc, err);
}

qn_status qn__device_kernels(const struct qn__backend **out, qn_error *err) { return open_plugin(out, false, err); }

struct qn__gpu_device *qn__device_share(struct qn__gpu_device *d)
{
    if (d) d->refs++;
    return d;
}

void qn__device_close(struct qn__gpu_device *d)
{
    if (!d || --d->refs > 0) return;
    qn_alloc alloc = d->alloc;
    d->api->close(d->device);
    qn__free(&alloc, d, sizeof *d);
}
