/* gpu.c - see gpu.h. */
#include "gpu.h"
#include "../../core/device.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH = 4096 };
static struct qn__gpu_device *opened;
static struct drive_on target;

/* The simulator's plugin of the build that this program, tests/<room>/<name>, belongs to. */
static void choose_plugin(void)
{
    char self[PATH], path[PATH + 64];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (getenv("QN_CUDA_PLUGIN") || n <= 0) return;
    self[n] = 0;
    for (int up = 0; up < 3; up++) {
        char *slash = strrchr(self, '/');
        if (!slash) return;
        *slash = 0;
    }
    snprintf(path, sizeof path, "%s/cudasim/fast/libquern_cuda.so", self);
    if (access(path, R_OK) == 0) setenv("QN_CUDA_PLUGIN", path, 1);
}

const struct drive_on *gpu_open(void)
{
    qn_error err;
    choose_plugin();
    const char *plugin = getenv("QN_CUDA_PLUGIN");
    if (opened || !plugin) return opened ? &target : NULL;
    if (qn__device_open(&opened, "cuda", NULL, &err)) {
        fprintf(stderr, "%s: %s\n", plugin, err.text);
        exit(1);
    }
    target = (struct drive_on){ opened->backend, opened->device, !strstr(plugin, "checked") };
    return &target;
}

void gpu_close(void)
{
    qn__device_close(opened);
    opened = NULL;
}
