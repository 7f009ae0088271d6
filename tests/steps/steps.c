/* steps.c - see steps.h. */
#include "steps.h"
#include "../lib/workdir.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <dirent.h>
#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a test run writes need not survive a power cut; tests/io covers that. */
int fsync(int fd)
{
    (void)fd;
    return 0;
}

const char *steps_root(void)
{
    if (!workdir[0]) assert_int_equal(workdir_begin(NULL), 0);
    return workdir;
}

void steps_clean(void)
{
    if (workdir[0]) workdir_end(NULL);
    workdir[0] = 0;
}

static void train(struct steps_run *out, const char *text, const char *resume, int64_t epochs)
{
    char dir[STEPS_PATH]; /* resume may be out->dir */
    qn_recipe *recipe = NULL;
    qn_recipe_errors errs;
    qn_trainer *t = NULL;
    snprintf(dir, sizeof dir, "%s", resume ? resume : "");
    qn_trainer_opts opts = {
        .out = steps_root(), .resume = resume ? dir : NULL, .epochs = epochs, .fd = -1, .threads = 1
    };
    memset(out, 0, sizeof *out);
    if (text && qn_recipe_parse(&recipe, "test.json", text, strlen(text), NULL, 0, &errs))
        fail_msg("%s", errs.list[0].text);
    out->status = qn_trainer_open(&t, recipe, &opts, &out->err);
    if (!out->status) {
        snprintf(out->dir, sizeof out->dir, "%s", qn_trainer_run_dir(t));
        out->status = qn_trainer_run(t, &out->result, &out->err);
    }
    qn_trainer_free(t);
    qn_recipe_free(recipe);
}

void steps_train(struct steps_run *out, const char *recipe, const char *resume)
{
    train(out, resume ? NULL : recipe, resume, 0);
}

void steps_train_epochs(struct steps_run *out, const char *resume, int64_t epochs) { train(out, NULL, resume, epochs); }

static int by_number(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

int steps_list(const char *run, int64_t *step, int max)
{
    char path[STEPS_PATH + 20];
    int n = 0;
    snprintf(path, sizeof path, "%s/checkpoints", run);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        if (strncmp(e->d_name, "step-", 5) == 0 && !strchr(e->d_name, '.') && n < max)
            step[n++] = strtoll(e->d_name + 5, NULL, 10);
    closedir(d);
    qsort(step, (size_t)n, sizeof *step, by_number);
    return n;
}

static char *read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s cannot be read", path);
    char *text = calloc(1, 1 << 22);
    size_t n = fread(text, 1, (1 << 22) - 1, f);
    fclose(f);
    if (size) *size = n;
    return text;
}

static void copy_file(const char *from, const char *to, const char *name)
{
    char path[STEPS_PATH + 40];
    size_t n;
    snprintf(path, sizeof path, "%s/%s", from, name);
    char *bytes = read_file(path, &n);
    snprintf(path, sizeof path, "%s/%s", to, name);
    FILE *f = fopen(path, "wb");
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
    free(bytes);
}

static void take_tensors(struct steps_parts *p, const qn_safetensors *st)
{
    for (int64_t i = 0; i < qn_safetensors_count(st); i++) {
        qn_tensor_info info;
        qn_safetensors_at(st, i, &info);
        qn_tensor_data *t = &p->tensor[p->n++];
        assert_true(p->n < 256);
        *t = (qn_tensor_data){ .name = info.name, .dtype = info.dtype, .rank = info.rank };
        memcpy(t->dim, info.dim, sizeof t->dim);
        void *data = malloc((size_t)info.bytes + 1);
        assert_int_equal(qn_safetensors_read(st, &info, data, info.dtype, NULL), 0);
        t->data = data;
    }
}

static void copy_checkpoint(const char *path, const char *to, const char *name, steps_change *change, void *user)
{
    qn_checkpoint *ck;
    qn_error err;
    struct steps_parts p = { .n = 0 };
    if (qn_checkpoint_open(&ck, path, &err)) fail_msg("%s", err.text);
    take_tensors(&p, qn_checkpoint_model(ck));
    p.n_model = p.n;
    take_tensors(&p, qn_checkpoint_state(ck));
    const char *progress = qn_checkpoint_text(ck, "progress.json");
    p.progress = strdup(progress);
    qn_tensor_data *first = p.tensor;
    int total = p.n;
    void *owned[256];
    for (int i = 0; i < total; i++) owned[i] = (void *)(uintptr_t)p.tensor[i].data;
    if (change) change(&p, user);
    const qn_checkpoint_part parts[] = { { "recipe.json", qn_checkpoint_text(ck, "recipe.json") },
                                         { "transform.json", qn_checkpoint_text(ck, "transform.json") },
                                         { "progress.json", p.progress } };
    qn_checkpoint_contents c = { .step = qn_checkpoint_step(ck),
                                 .run_id = qn_checkpoint_run(ck),
                                 .model = first,
                                 .n_model = p.n_model,
                                 .state = first + p.n_model,
                                 .n_state = p.n - p.n_model,
                                 .parts = parts,
                                 .n_parts = 3 };
    qn_status status = name ? qn_checkpoint_write_named(to, name, &c, &err) : qn_checkpoint_write(to, &c, 0, &err);
    if (status) fail_msg("%s", err.text);
    for (int i = 0; i < total; i++) free(owned[i]);
    free(p.progress);
    qn_checkpoint_close(ck);
}

void steps_fork(const char *from, int64_t step, const char *to, steps_change *change, void *user)
{
    char source[STEPS_PATH + 40], target[STEPS_PATH + 40];
    assert_int_equal(mkdir(to, 0777), 0);
    copy_file(from, to, "recipe.json");
    copy_file(from, to, "log.jsonl");
    snprintf(target, sizeof target, "%s/checkpoints", to);
    assert_int_equal(mkdir(target, 0777), 0);
    snprintf(source, sizeof source, "%s/checkpoints/best", from);
    if (access(source, R_OK) == 0) copy_checkpoint(source, target, "best", NULL, NULL);
    snprintf(source, sizeof source, "%s/checkpoints/step-%06lld", from, (long long)step);
    copy_checkpoint(source, target, NULL, change, user);
}

/* ---- digest --------------------------------------------------------------------------------------------------- */

static void add_text(char **at, const char *text)
{
    size_t n = strlen(text);
    memcpy(*at, text, n + 1);
    *at += n;
}

/* Times differ from run to run, and a resumed run says that it is one. */
static void add_log(char **at, const char *run)
{
    char path[STEPS_PATH + 20];
    snprintf(path, sizeof path, "%s/log.jsonl", run);
    char *text = read_file(path, NULL);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *o = json_loads(line, 0, NULL);
        if (!o) fail_msg("%s: not JSON: %s", path, line);
        json_object_del(o, "seconds");
        if (strcmp(json_string_value(json_object_get(o, "event")), "resume") != 0) {
            char *plain = json_dumps(o, JSON_SORT_KEYS);
            add_text(at, plain);
            add_text(at, "\n");
            free(plain);
        }
        json_decref(o);
    }
    free(text);
}

static void add_tensors(char **at, const qn_safetensors *st)
{
    for (int64_t i = 0; i < qn_safetensors_count(st); i++) {
        qn_tensor_info info;
        char line[700];
        uint64_t hash = UINT64_C(14695981039346656037);
        qn_safetensors_at(st, i, &info);
        unsigned char *data = malloc((size_t)info.bytes + 1);
        assert_int_equal(qn_safetensors_read(st, &info, data, info.dtype, NULL), 0);
        for (int64_t k = 0; k < info.bytes; k++) hash = (hash ^ data[k]) * UINT64_C(1099511628211);
        free(data);
        snprintf(line, sizeof line, "%s %016llx\n", info.name, (unsigned long long)hash);
        add_text(at, line);
    }
}

char *steps_digest(const struct steps_run *r)
{
    char *text = calloc(1, 1 << 22), *at = text, line[STEPS_PATH + 60];
    const qn_train_result *x = &r->result;
    int64_t step[400];
    qn_checkpoint *ck;
    qn_error err;
    int n = steps_list(r->dir, step, 400);
    snprintf(line, sizeof line,
             "status %d code %d epochs %lld steps %lld skipped %lld early %d best %lld %a valid %a %a\n", r->status,
             r->err.code, (long long)x->epochs, (long long)x->steps, (long long)x->skipped, x->stopped_early,
             (long long)x->best_epoch, x->best_value, x->valid.loss, x->valid.accuracy);
    add_text(&at, line);
    if (n > 0) {
        snprintf(line, sizeof line, "%s/checkpoints/step-%06lld", r->dir, (long long)step[n - 1]);
        if (qn_checkpoint_open(&ck, line, &err)) fail_msg("%s", err.text);
        snprintf(line, sizeof line, "step %lld\n", (long long)step[n - 1]);
        add_text(&at, line);
        add_tensors(&at, qn_checkpoint_model(ck));
        add_tensors(&at, qn_checkpoint_state(ck));
        qn_checkpoint_close(ck);
    }
    add_log(&at, r->dir);
    return text;
}
