/* cmd_show.c - `quern show`: the graph of a recipe after each pass, or what is in a file of tensors. */
#include "showing.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the passes' texts --------------------------------------------------------------------------------- */

enum { MOST_STAGES = 16 };

struct stages {
    int n;
    char *name[MOST_STAGES], *text[MOST_STAGES];
    bool failed;
};

static void keep_stage(void *user, const char *stage, const char *text)
{
    struct stages *s = user;
    if (s->n == MOST_STAGES || s->failed) return;
    s->name[s->n] = strdup(stage);
    s->text[s->n] = strdup(text);
    s->failed = !s->name[s->n] || !s->text[s->n];
    s->n++;
}

static void free_stages(struct stages *s)
{
    for (int i = 0; i < s->n; i++) {
        free(s->name[i]);
        free(s->text[i]);
    }
}

/* The last stage of that name: passes may run twice. */
static int find_stage(const struct stages *s, const char *name)
{
    for (int i = s->n - 1; i >= 0; i--)
        if (strcmp(s->name[i], name) == 0) return i;
    return -1;
}

static qn_status unknown_pass(const struct stages *s, const char *name, qn_error *err)
{
    char all[160] = "";
    size_t at = 0;
    for (int i = 0; i < s->n && at < sizeof all; i++)
        if (find_stage(s, s->name[i]) == i)
            at += (size_t)snprintf(all + at, sizeof all - at, "%s%s", at ? ", " : "", s->name[i]);
    int near = qn__nearest(name, (const char *const *)s->name, s->n);
    if (near >= 0)
        return qn__fail(err, 2001, QN_AT_FIELD("--pass"), "\"%s\"; did you mean \"%s\"? expected one of %s",
                        qn__show(name).s, s->name[near], all);
    return qn__fail(err, 2001, QN_AT_FIELD("--pass"), "\"%s\"; expected one of %s", qn__show(name).s, all);
}

/* ---- tables ----------------------------------------------------------------------------------------------- */

static void print_layers(const qn_layer_info *row, int n)
{
    char dims[180];
    int64_t total = 0;
    printf("%-28s %-16s %-20s %12s\n", "layer", "kind", "output", "parameters");
    for (int i = 0; i < n; i++) {
        printf("%-28s %-16s %-20s %12lld\n", row[i].name, row[i].kind,
               cli_dims_text(dims, sizeof dims, row[i].rank, row[i].dim), (long long)row[i].parameters);
        total += row[i].parameters;
    }
    printf("%-28s %-16s %-20s %12lld\n", "total", "", "", (long long)total);
}

struct counts {
    int values, operators, updates;
};

/* Of a stage's text: a value a line; sources are not launched. */
static struct counts count_values(const char *text)
{
    struct counts c = { 0, 0, 0 };
    for (const char *p = text; *p;) {
        const char *end = strchr(p, '\n');
        size_t n = end ? (size_t)(end - p) : strlen(p);
        const char *op = memmem(p, n, " = ", 3);
        static const char *const sources[] = { "input(", "store(", "full{", "constant(", "reshape(" };
        bool launched = op != NULL;
        for (size_t i = 0; op && i < sizeof sources / sizeof sources[0]; i++)
            if (strncmp(op + 3, sources[i], strlen(sources[i])) == 0) launched = false;
        c.values++;
        c.operators += launched;
        c.updates += launched && memmem(p, n, " update ", 8) != NULL;
        p += n + (end != NULL);
    }
    return c;
}

static void print_statistics(const struct stages *s)
{
    printf("\n%-12s %10s %10s %10s\n", "after", "values", "operators", "of update");
    for (int i = 0; i < s->n; i++) {
        struct counts c = count_values(s->text[i]);
        printf("%-12s %10d %10d %10d\n", s->name[i], c.values, c.operators, c.updates);
    }
}

static void print_recipe_json(const qn_layer_info *row, int n, const struct stages *s)
{
    printf("{\"layers\":[");
    for (int i = 0; i < n; i++) {
        printf("%s{\"name\":", i ? "," : "");
        cli_json_text(row[i].name);
        printf(",\"kind\":\"%s\",\"output\":[", row[i].kind);
        for (int k = 0; k < row[i].rank; k++) printf("%s%lld", k ? "," : "", (long long)row[i].dim[k]);
        printf("],\"parameters\":%lld}", (long long)row[i].parameters);
    }
    printf("],\"passes\":[");
    for (int i = 0; i < s->n; i++) {
        struct counts c = count_values(s->text[i]);
        printf("%s{\"after\":\"%s\",\"values\":%d,\"operators\":%d}", i ? "," : "", s->name[i], c.values, c.operators);
    }
    printf("]}\n");
}

/* ---- a recipe ---------------------------------------------------------------------------------------------- */

static qn_status show_stages(const struct stages *s, const qn_recipe *r, const qn_transform *shape,
                             const struct options *o, qn_error *err)
{
    int at = o->pass ? find_stage(s, o->pass) : s->n - 1;
    qn_layer_info *layers;
    if (s->failed) return qn__nomem(err, "graph", 0);
    if (at < 0) return unknown_pass(s, o->pass, err);
    if (o->svg) QN_TRY(cli_draw_graph(o->svg, r->name, s->name[at], s->text[at], err));
    if (o->pass) {
        fputs(s->text[at], stdout);
        return QN_OK;
    }
    QN_TRY(qn_plan_layers(&layers, r, shape, err));
    if (o->json) {
        print_recipe_json(layers, r->n_layers, s);
    } else {
        print_layers(layers, r->n_layers);
        print_statistics(s);
    }
    free(layers);
    return QN_OK;
}

static qn_status show_shaped(const qn_recipe *r, const qn_transform *shape, const struct options *o, qn_error *err)
{
    struct stages s = { 0 };
    qn_plan plan;
    qn_status status = qn_plan_open(&plan, r, shape, 0, 0, &(qn_compile_opts){ .dump = keep_stage, .user = &s }, err);
    if (!status) {
        status = show_stages(&s, r, shape, o, err);
        qn_plan_free(&plan);
    }
    free_stages(&s);
    return status;
}

static int show_recipe(const struct options *o)
{
    qn_recipe *r;
    qn_transform shape;
    qn_error err;
    int code = cli_load_recipe(&r, o->args.v[0], o);
    if (code) return code;
    qn_status status = qn_data_shape(r, &shape, &err);
    if (!status) {
        status = show_shaped(r, &shape, o, &err);
        qn_transform_free(&shape);
    }
    qn_recipe_free(r);
    return status ? cli_fail(&err) : 0;
}

/* ---- which of the two ---------------------------------------------------------------------------------------- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static int refuse_option(const char *option)
{
    qn_error err;
    qn__fail(&err, 2001, QN_AT_FIELD(option), "not for a file of tensors; expected a recipe; see quern show --help");
    return cli_fail(&err);
}

int cmd_show(int argc, char **argv)
{
    struct options o;
    struct stat st;
    int code = cli_parse(&cli_show, argc, argv, &o);
    if (code >= 0) return code;
    const char *path = o.args.v[0];
    if (!ends_with(path, ".safetensors") && (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))) {
        code = show_recipe(&o);
    } else if (o.pass || o.svg || o.set.n) {
        code = refuse_option(o.pass ? "--pass" : o.svg ? "--svg" : "--set");
    } else {
        qn_error err;
        code = cli_show_tensors(path, o.json, &err) ? cli_fail(&err) : 0;
    }
    cli_free(&o);
    return cli_finish(code);
}
