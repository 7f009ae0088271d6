/* showing.h - the parts of `quern show`. */
#ifndef QN_CLI_SHOWING_H
#define QN_CLI_SHOWING_H
#include "training.h"

/* Draws the text of a graph (core/dump.c has its form) as SVG. E7070 if it does not have that form. */
qn_status cli_draw_graph(const char *path, const char *recipe, const char *stage, const char *text, qn_error *err);

/* Tensors with their statistics, and the metadata: of a .safetensors file, of a checkpoint, or of a run's best. */
qn_status cli_show_tensors(const char *path, bool json, qn_error *err);
#endif
