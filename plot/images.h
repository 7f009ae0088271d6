/* images.h - what the pictures made of images share. */
#ifndef QN_PLOT_IMAGES_H
#define QN_PLOT_IMAGES_H
#include "canvas.h"

/* Checks counts and sides. E2203, E2204. */
qn_status qn__images_check(const qn_plot_images *im, int64_t most, qn_error *err);
/* One pixel as a colour; what is not finite is mid-grey. */
qn__color qn__images_color(const qn_plot_images *im, int64_t i, int64_t y, int64_t x);
/* The image with its upper left corner at (x, y), each of its pixels `scale` wide. */
void qn__images_draw(struct qn__canvas *c, const qn_plot_images *im, int64_t i, double x, double y, double scale);
/* A whole number (or, for large images, 1/n) of pixels for each, so that the side is about `side`. */
double qn__images_scale(const qn_plot_images *im, double side);
/* Title at the usual place. */
void qn__sheet_title(struct qn__canvas *c, double x, const char *title);

enum { QN__SHEET_MARGIN = 24, QN__SHEET_TOP = 58 };
#endif
