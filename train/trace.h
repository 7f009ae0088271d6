/* trace.h - when each operator of a few steps ran, for chrome://tracing and Perfetto. Private to train/. */
#ifndef QN_TRAIN_TRACE_H
#define QN_TRAIN_TRACE_H
#include "../include/quern/profile.h"
#include "json.h"

/* Zeroed: empty. The first steps warm caches and threads up: they are left out. */
struct qn__trace {
    struct qn__text text;
    double begin;
    int64_t seen, steps;
};
enum { QN_TRACE_SKIP = 3, QN_TRACE_STEPS = 5 };

/* After a step of a program that is profiled; nothing once there are QN_TRACE_STEPS. */
void qn__trace_step(struct qn__trace *t, const qn_program *p);
/* DIR/trace.json in the Trace Event Format; nothing if no step was taken. */
qn_status qn__trace_write(struct qn__trace *t, const char *dir, qn_error *err);
void qn__trace_free(struct qn__trace *t);
#endif
