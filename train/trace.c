/* trace.c - see trace.h. */
#include "trace.h"
#include "run_dir.h"
#include "../core/file.h"
#include <string.h>

static void add_operator(struct qn__trace *t, const qn_step_info *s, const qn_step_timing *time)
{
    char start[32], last[32];
    qn__text_add(&t->text, "%s\n{\"ph\":\"X\",\"pid\":1,\"tid\":1,\"ts\":%s,\"dur\":%s,\"cat\":\"%s\",\"name\":",
                 t->steps || t->begin < time->start ? "," : "", qn__format_f64(start, 1e6 * (time->start - t->begin)),
                 qn__format_f64(last, 1e6 * time->last), s->phase == QN_MICRO ? "micro" : "update");
    qn__text_json(&t->text, s->op);
    qn__text_add(&t->text, ",\"args\":{\"name\":");
    qn__text_json(&t->text, s->name);
    qn__text_add(&t->text, ",\"variant\":");
    qn__text_json(&t->text, s->variant);
    qn__text_add(&t->text, ",\"flops\":%s", qn__format_f64(start, s->flops));
    qn__text_add(&t->text, ",\"bytes\":%s,\"step\":%lld}}", qn__format_f64(start, s->bytes), (long long)t->seen);
}

void qn__trace_step(struct qn__trace *t, const qn_program *p)
{
    if (++t->seen <= QN_TRACE_SKIP || t->steps == QN_TRACE_STEPS) return;
    for (int i = 0; i < qn_program_steps(p); i++) {
        qn_step_info s = qn_program_step(p, i);
        qn_step_timing time = qn_program_timing(p, i);
        if (t->text.n == 0) {
            t->begin = time.start;
            qn__text_add(&t->text, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[");
        }
        if (time.runs > 0) add_operator(t, &s, &time);
    }
    t->steps++;
}

qn_status qn__trace_write(struct qn__trace *t, const char *dir, qn_error *err)
{
    char path[QN_PATH_MAX];
    if (t->steps == 0) return QN_OK;
    qn__text_add(&t->text, "\n]}\n");
    if (t->text.failed) return qn__nomem(err, "trace", t->text.n);
    QN_TRY(qn__path_join(path, dir, "trace.json", err));
    return qn__file_replace(path, t->text.s, t->text.n, err);
}

void qn__trace_free(struct qn__trace *t)
{
    qn__free(NULL, t->text.s, t->text.cap);
    memset(t, 0, sizeof *t);
}
