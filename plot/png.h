/* png.h - where the charts leave the process. */
#ifndef QN_PLOT_PNG_H
#define QN_PLOT_PNG_H
#include "../include/quern/base.h"

/* Writes rgb [h, w, 3] as a PNG: beside, then renamed, so that no half picture has the final name. */
qn_status qn__plot_png(const char *path, const unsigned char *rgb, int w, int h, qn_error *err);
/* The same for any bytes; the SVG writer uses it. */
qn_status qn__plot_file(const char *path, const void *data, size_t n, qn_error *err);
#endif
