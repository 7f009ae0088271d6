/* png.c - pictures into files: see png.h. */
#include "png.h"
#include "../core/base.h"
#include <errno.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

qn_status qn__plot_file(const char *path, const void *data, size_t n, qn_error *err)
{
    char beside[4096], text[128];
    int length = snprintf(beside, sizeof beside, "%s.tmp.%ld", path, (long)getpid());
    if (length < 0 || (size_t)length >= sizeof beside)
        return qn__fail(err, 6002, QN_AT_FILE(path), "open: %s",
                        strerror_r(ENAMETOOLONG, text, sizeof text));
    FILE *f = fopen(beside, "wbe");
    const char *what = "open";
    bool ok = f != NULL;
    if (ok) {
        what = "write";
        ok = fwrite(data, 1, n, f) == n && fflush(f) == 0;
        int failure = errno;
        ok = fclose(f) == 0 && ok;
        if (!ok && failure) errno = failure;
    }
    if (ok) {
        what = "rename";
        ok = rename(beside, path) == 0;
    }
    if (ok) return QN_OK;
    int failure = errno;
    if (f) unlink(beside);
    return qn__fail(err, 6002, QN_AT_FILE(path), "%s: %s", what,
                    strerror_r(failure, text, sizeof text));
}

qn_status qn__plot_png(const char *path, const unsigned char *rgb, int w, int h, qn_error *err)
{
    png_image image = { .version = PNG_IMAGE_VERSION, .width = (png_uint_32)w,
                        .height = (png_uint_32)h, .format = PNG_FORMAT_RGB };
    png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(image);
    void *file = malloc(bytes);
    if (!file) return qn__nomem(err, "plot.png", bytes);
    qn_status status;
    if (png_image_write_to_memory(&image, file, &bytes, 0, rgb, 0, NULL))
        status = qn__plot_file(path, file, bytes, err);
    else
        status = qn__fail(err, 6002, QN_AT_FILE(path), "libpng: %s", qn__show(image.message).s);
    free(file);
    return status;
}
