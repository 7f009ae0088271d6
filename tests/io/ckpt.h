/* ckpt.h - a small checkpoint whose every value follows from its step, so that a restored one can be
 * checked without having kept the original. Shared by the tests and by ckpt_writer. */
#ifndef QN_TESTS_CKPT_H
#define QN_TESTS_CKPT_H
#include "../../include/quern/checkpoint.h"
#include <stdio.h>
#include <string.h>

enum { CKPT_WEIGHTS = 12 };
struct ckpt_sample {
    float weight[CKPT_WEIGHTS], moment[CKPT_WEIGHTS];
    int64_t applied;
    char recipe[64];
    qn_tensor_data model[2], state[2];
    qn_checkpoint_part part[1];
    qn_checkpoint_contents c;
};

static inline void ckpt_fill(struct ckpt_sample *s, int64_t step)
{
    memset(s, 0, sizeof *s);
    for (int i = 0; i < CKPT_WEIGHTS; i++) {
        s->weight[i] = (float)step + (float)i / 16;
        s->moment[i] = (float)-step * (float)i;
    }
    s->applied = step;
    snprintf(s->recipe, sizeof s->recipe, "{\"note\": \"recipe of step %lld\"}\n", (long long)step);
    s->model[0] = (qn_tensor_data){ "fc.weight", QN_F32, 2, { 3, 4 }, s->weight };
    s->model[1] = (qn_tensor_data){ "fc.bias", QN_F32, 1, { 4 }, s->weight };
    s->state[0] = (qn_tensor_data){ "adam.m.fc.weight", QN_F32, 2, { 3, 4 }, s->moment };
    s->state[1] = (qn_tensor_data){ "applied", QN_I64, 0, { 0 }, &s->applied };
    s->part[0] = (qn_checkpoint_part){ "recipe.json", s->recipe };
    s->c = (qn_checkpoint_contents){ .step = step,
                                     .run_id = "run-1",
                                     .model = s->model,
                                     .n_model = 2,
                                     .state = s->state,
                                     .n_state = 2,
                                     .parts = s->part,
                                     .n_parts = 1 };
}

static inline bool ckpt_tensor_is(const qn_safetensors *st, const qn_tensor_data *t)
{
    qn_tensor_info info;
    char buffer[256];
    if (!qn_safetensors_find(st, t->name, &info) || info.bytes > (int64_t)sizeof buffer) return false;
    if (qn_safetensors_read(st, &info, buffer, t->dtype, NULL)) return false;
    return memcmp(buffer, t->data, (size_t)info.bytes) == 0;
}

/* Is this exactly what ckpt_fill made for its step? */
static inline bool ckpt_is_sample(const qn_checkpoint *ck)
{
    struct ckpt_sample s;
    ckpt_fill(&s, qn_checkpoint_step(ck));
    const char *recipe = qn_checkpoint_text(ck, "recipe.json");
    bool same = recipe && strcmp(recipe, s.recipe) == 0 && strcmp(qn_checkpoint_run(ck), "run-1") == 0;
    for (int i = 0; i < 2; i++)
        same = same && ckpt_tensor_is(qn_checkpoint_model(ck), &s.model[i]) &&
               ckpt_tensor_is(qn_checkpoint_state(ck), &s.state[i]);
    return same;
}
#endif
