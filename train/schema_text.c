/* schema_text.c - the schema as a listing, as docs/recipes.md, and as JSON Schema. */
#include "schema.h"
#include <stdlib.h>
#include <string.h>

extern const struct qn__table qn__data_table, qn__files_table, qn__normalize_table, qn__augment_table, qn__loss_table,
    qn__optimizer_table, qn__group_table, qn__schedule_table, qn__metric_table, qn__stopping_table,
    qn__checkpoint_table, qn__clip_table, qn__ema_table, qn__penalties_table, qn__log_table, qn__spike_table;

/* In the order in which a reader wants them. */
static const struct qn__table *const chapters[] = {
    &qn__recipe_table,    &qn__data_table,     &qn__files_table,      &qn__normalize_table, &qn__augment_table,
    &qn__layer_table,     &qn__loss_table,     &qn__optimizer_table,  &qn__group_table,     &qn__schedule_table,
    &qn__metric_table,    &qn__stopping_table, &qn__checkpoint_table, &qn__clip_table,      &qn__ema_table,
    &qn__penalties_table, &qn__log_table,      &qn__spike_table,
};

static const char *type_of(const struct qn__field *f, char *buf, size_t size)
{
    if (f->kind == QN__K_FLAG) return "true";
    return qn__field_type(f, buf, size);
}

/* Where a key exists: "conv, linear"; "" where it is for all. A selecting key says it by itself. */
static void applies(struct qn__text *t, const struct qn__table *table, const struct qn__field *f)
{
    if (f->selects || !table->variants || f->only == 0) return;
    int n = 0, all = 0, missing = -1;
    for (int i = 0; table->variants[i]; i++, all++) {
        if (!qn__field_fits(f, i))
            missing = i;
        else
            n++;
    }
    if (n == all - 1) {
        qn__text_add(t, "all but %s", table->variants[missing]);
        return;
    }
    bool first = true;
    for (int i = 0; i < all; i++)
        if (qn__field_fits(f, i)) {
            qn__text_add(t, "%s%s", first ? "" : ", ", table->variants[i]);
            first = false;
        }
}

/* "required", "(not given)" or the default. */
static const char *standard(const struct qn__field *f)
{
    if (f->selects && !f->or_true) return "";
    if (!f->standard) return "required";
    return strcmp(f->standard, "null") == 0 ? "" : f->standard;
}

/* ---- Markdown ---- */

static void markdown_row(struct qn__text *t, const struct qn__table *table, const struct qn__field *f)
{
    char type[400];
    const char *d = standard(f);
    bool code = *d && strcmp(d, "required") != 0;
    qn__text_add(t, "| `%s` | %s | %s%s%s | ", f->name, type_of(f, type, sizeof type), code ? "`" : "", d,
                 code ? "`" : "");
    if (table->variants) {
        applies(t, table, f);
        qn__text_add(t, " | ");
    }
    qn__text_add(t, "%s |\n", f->doc);
}

static void markdown_table(struct qn__text *t, const struct qn__table *table)
{
    qn__text_add(t, "\n## %s\n\n%s\n\n", table->title, table->doc);
    if (table->optional && table != &qn__files_table)
        qn__text_add(t, "Off unless given; `false` turns it off, `true` takes all defaults.\n\n");
    qn__text_add(t, "| key | value | default |%s meaning |\n|---|---|---|%s---|\n",
                 table->variants ? " only for |" : "", table->variants ? "---|" : "");
    for (int i = 0; i < table->n; i++) markdown_row(t, table, &table->field[i]);
}

static void markdown(struct qn__text *t)
{
    qn__text_add(t,
                 "<!-- Written by `quern schema --markdown`; do not edit. The source is train/schema.def. "
                 "-->\n"
                 "# Recipes\n\n"
                 "A recipe is a JSON file that says what to train, on what data and how. `//` and `/* */` "
                 "comments "
                 "are allowed. `quern schema RECIPE` checks one and prints it with every default filled "
                 "in.\n\n"
                 "```json\n"
                 "{\n"
                 "    \"quern\": 1,\n"
                 "    \"data\": \"fashion-mnist\",\n"
                 "    \"model\": [\n"
                 "        \"flatten\",\n"
                 "        { \"linear\": 128, \"activation\": \"relu\" },   // hidden layer\n"
                 "        { \"linear\": 10 }                            // logits\n"
                 "    ],\n"
                 "    \"optimizer\": { \"name\": \"adam\", \"lr\": 0.001 },\n"
                 "    \"metrics\": [\"accuracy\"],\n"
                 "    \"epochs\": 10\n"
                 "}\n"
                 "```\n\n"
                 "Any value can be replaced from the command line: `--set optimizer.lr=3e-4`, "
                 "`--set model[1].linear=64`, `--set data.dir=DIR`. `\"vars\": { \"width\": 128 }` makes "
                 "`\"$width\"` usable wherever a value is expected (`\"$$\"` begins a string with a dollar "
                 "sign), "
                 "and `--set vars.width=64` changes it everywhere.\n\n"
                 "Limits: %d bytes, %d values, %d levels of nesting, %d layers after repeats are written out.\n",
                 QN_RECIPE_BYTES, QN_RECIPE_VALUES, QN_RECIPE_DEPTH, QN_RECIPE_LAYERS);
    for (size_t i = 0; i < sizeof chapters / sizeof *chapters; i++) markdown_table(t, chapters[i]);
}

/* ---- listing ---- */

/* Text without Markdown's backquotes, broken at about 96 columns. */
static void wrapped(struct qn__text *t, const char *s, int indent)
{
    int column = indent;
    qn__text_add(t, "%*s", indent, "");
    while (*s) {
        size_t n = strcspn(s, " ");
        if (column > indent && column + 1 + (int)n > 96) {
            qn__text_add(t, "\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            qn__text_add(t, " ");
            column++;
        }
        for (size_t i = 0; i < n; i++)
            if (s[i] != '`') qn__text_add(t, "%c", s[i]);
        column += (int)n;
        s += n + (s[n] == ' ');
    }
    qn__text_add(t, "\n");
}

static void listing_row(struct qn__text *t, const struct qn__table *table, const struct qn__field *f)
{
    char type[400];
    const char *d = standard(f);
    qn__text_add(t, "  %-16s %s", f->name, type_of(f, type, sizeof type));
    if (strcmp(d, "required") == 0)
        qn__text_add(t, "; required");
    else if (*d)
        qn__text_add(t, "; default %s", d);
    qn__text_add(t, "\n");
    if (table->variants && f->only && !f->selects) {
        qn__text_add(t, "      only for: ");
        applies(t, table, f);
        qn__text_add(t, "\n");
    }
    wrapped(t, f->doc, 6);
}

static void listing(struct qn__text *t)
{
    for (size_t i = 0; i < sizeof chapters / sizeof *chapters; i++) {
        qn__text_add(t, "%s%s\n", i ? "\n" : "", chapters[i]->title);
        wrapped(t, chapters[i]->doc, 2);
        for (int r = 0; r < chapters[i]->n; r++) listing_row(t, chapters[i], &chapters[i]->field[r]);
    }
}

/* ---- JSON Schema ---- */

static void schema_ref(struct qn__text *t, const struct qn__table *table)
{
    qn__text_add(t, "{ \"$ref\": \"#/$defs/%s\" }", table->title);
}

static void schema_number(struct qn__text *t, const struct qn__field *f, const char *type)
{
    char low[32], high[32];
    qn__text_add(t, "{ \"type\": \"%s\", \"minimum\": %s, \"maximum\": %s }", type, qn__format_f64(low, f->min),
                 qn__format_f64(high, f->max));
}

static void schema_list(struct qn__text *t, const struct qn__field *f, const char *type, int count)
{
    qn__text_add(t, "{ \"type\": \"array\", ");
    if (count) qn__text_add(t, "\"minItems\": %d, \"maxItems\": %d, ", count, count);
    qn__text_add(t, "\"items\": ");
    if (strcmp(type, "string") == 0)
        qn__text_add(t, "{ \"type\": \"string\" }");
    else
        schema_number(t, f, type);
    qn__text_add(t, " }");
}

static void schema_value(struct qn__text *t, const struct qn__field *f)
{
    switch (f->kind) {
    case QN__K_FLAG: qn__text_add(t, "{ \"type\": [\"boolean\", \"object\"] }"); break;
    case QN__K_BOOL: qn__text_add(t, "{ \"type\": \"boolean\" }"); break;
    case QN__K_INT: schema_number(t, f, "integer"); break;
    case QN__K_CHANCE:
    case QN__K_REAL: schema_number(t, f, "number"); break;
    case QN__K_TEXT:
    case QN__K_CHOICE:
        qn__text_add(t, "{ \"type\": \"string\"");
        for (int i = 0; f->choices && f->choices[i]; i++)
            qn__text_add(t, "%s\"%s\"", i ? ", " : ", \"enum\": [", f->choices[i]);
        qn__text_add(t, f->choices ? "] }" : " }");
        break;
    case QN__K_PAIR:
    case QN__K_PADDING:
        schema_number(t, f, "integer");
        qn__text_add(t, ", ");
        schema_list(t, f, "integer", 2);
        if (f->kind == QN__K_PADDING) qn__text_add(t, ", { \"const\": \"same\" }");
        break;
    case QN__K_REAL2: schema_list(t, f, "number", 2); break;
    case QN__K_TEXTS:
        qn__text_add(t, "{ \"type\": \"string\" }, ");
        schema_list(t, f, "string", 0);
        break;
    case QN__K_INTS: schema_list(t, f, "integer", 0); break;
    case QN__K_REALS: schema_list(t, f, "number", 0); break;
    case QN__K_OBJECT: schema_ref(t, f->table); break;
    case QN__K_OBJECTS:
        qn__text_add(t, "{ \"type\": \"array\", \"items\": ");
        schema_ref(t, f->table);
        qn__text_add(t, " }");
        break;
    case QN__K_VARS: qn__text_add(t, "{ \"type\": \"object\" }"); break;
    case QN__K_LAYERS: qn__text_add(t, "{ \"type\": \"array\", \"items\": { \"$ref\": \"#/$defs/layers\" } }"); break;
    case QN__K_BRANCHES:
        qn__text_add(t, "{ \"type\": \"array\", \"items\": { \"type\": \"array\", \"items\": { \"$ref\": "
                        "\"#/$defs/layers\" } } }, { \"const\": true }");
        break;
    }
}

static void schema_property(struct qn__text *t, const struct qn__table *table, int i)
{
    const struct qn__field *f = &table->field[i];
    qn__text_add(t, "        \"%s\": { \"description\": ", f->name);
    qn__text_json(t, f->doc);
    qn__text_add(t, ", \"anyOf\": [");
    for (int j = i; j < table->n; j++) { /* rows of one key for different kinds */
        if (strcmp(table->field[j].name, f->name) != 0) continue;
        if (j > i) qn__text_add(t, ", ");
        schema_value(t, &table->field[j]);
        if (table->field[j].or_true || table->field[j].kind == QN__K_CHANCE)
            qn__text_add(t, ", { \"type\": \"boolean\" }");
        if (table->field[j].standard && strcmp(table->field[j].standard, "null") == 0)
            qn__text_add(t, ", { \"type\": \"null\" }");
    }
    qn__text_add(t, ", { \"type\": \"string\", \"pattern\": \"^[$]\" }] }");
}

static void schema_table(struct qn__text *t, const struct qn__table *table)
{
    qn__text_add(t, "    \"%s\": { \"description\": ", table->title);
    qn__text_json(t, table->doc);
    qn__text_add(t, ", \"type\": [\"object\"%s%s],\n      \"additionalProperties\": false, \"properties\": {\n",
                 table->short_form || table->layer ? ", \"string\"" : "", table->optional ? ", \"boolean\"" : "");
    bool first = true;
    for (int i = 0; i < table->n; i++) {
        bool again = false;
        for (int j = 0; j < i; j++) again |= strcmp(table->field[j].name, table->field[i].name) == 0;
        if (again) continue;
        qn__text_add(t, first ? "" : ",\n");
        schema_property(t, table, i);
        first = false;
    }
    qn__text_add(t, "\n      } }");
}

static void json_schema(struct qn__text *t)
{
    qn__text_add(t, "{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
                    "  \"title\": \"Quern recipe\",\n  \"$ref\": \"#/$defs/recipe\",\n  \"$defs\": {\n");
    for (size_t i = 0; i < sizeof chapters / sizeof *chapters; i++) {
        qn__text_add(t, i ? ",\n" : "");
        schema_table(t, chapters[i]);
    }
    qn__text_add(t, "\n  }\n}\n");
}

qn_status qn_recipe_schema(qn_schema_form form, char **out, qn_error *err)
{
    struct qn__text t = { 0 };
    *out = NULL;
    if (form == QN_SCHEMA_MARKDOWN)
        markdown(&t);
    else if (form == QN_SCHEMA_JSON)
        json_schema(&t);
    else
        listing(&t);
    if (t.failed) {
        qn__free(NULL, t.s, t.cap);
        return qn__nomem(err, "schema", t.cap);
    }
    *out = t.s;
    return QN_OK;
}
