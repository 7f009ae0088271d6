/* manifest.c - the manifest of a checkpoint: JSON that ends in the CRC-32 of itself.
 *
 * The last line is a checksum over every byte before it, so that no flipped bit, however harmless JSON
 * finds it, goes unnoticed. */
#include "checkpoint.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define FORMAT "quern-checkpoint"
#define TAIL_KEY "\"manifest_crc32\": \""
enum { MAX_JSON_DEPTH = 8 };

uint32_t qn__crc32(uint32_t crc, const void *data, size_t n)
{
    const unsigned char *p = data;
    while (n > 0) {
        uInt part = n > (1u << 30) ? 1u << 30 : (uInt)n; /* zlib counts in 32 bits */
        crc = (uint32_t)crc32(crc, p, part);
        p += part;
        n -= part;
    }
    return crc;
}

uint32_t qn__crc32_join(uint32_t a, uint32_t b, int64_t b_bytes)
{
    return (uint32_t)crc32_combine(a, b, (z_off_t)b_bytes);
}

const char *qn__checkpoint_bad_name(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t n = name ? strlen(name) : 0;
    if (n == 0 || n > 100) return "name must have 1..100 bytes";
    if (name[0] == '.') return "name must not begin with '.'";
    if (strspn(name, allowed) != n) return "name must be made of A-Z a-z 0-9 . _ -";
    return NULL;
}

/* ---- building ----------------------------------------------------------------------------- */

static json_t *crc_text(uint32_t crc)
{
    char text[16];
    snprintf(text, sizeof text, "%08x", (unsigned)crc);
    return json_string(text);
}

static json_t *entry_json(const struct qn__manifest_entry *e)
{
    json_t *o = json_object();
    bool ok = o && !json_object_set_new(o, "bytes", json_integer(e->bytes)) &&
              !json_object_set_new(o, "crc32", crc_text(e->crc));
    if (ok && e->tensors) {
        json_t *t = json_object();
        ok = t != NULL;
        for (int64_t i = 0; i < e->n_tensors && ok; i++)
            ok = !json_object_set_new(t, e->tensors[i].name, crc_text(e->tensor_crc[i]));
        ok = !json_object_set_new(o, "tensors", t) && ok;
    }
    if (ok) return o;
    json_decref(o);
    return NULL;
}

static json_t *manifest_json(int64_t step, const char *run, const struct qn__manifest_entry *entry, int n)
{
    json_t *root = json_object(), *files = json_object();
    bool ok = root && files && !json_object_set_new(root, "format", json_string(FORMAT)) &&
              !json_object_set_new(root, "version", json_integer(QN_CHECKPOINT_VERSION)) &&
              !json_object_set_new(root, "quern", json_string(QN_VERSION)) &&
              !json_object_set_new(root, "run", json_string(run)) &&
              !json_object_set_new(root, "step", json_integer(step));
    for (int i = 0; i < n && ok; i++) ok = !json_object_set_new(files, entry[i].name, entry_json(&entry[i]));
    if (ok) {
        ok = !json_object_set_new(root, "files", files);
        files = NULL;
    }
    json_decref(files);
    if (ok) return root;
    json_decref(root);
    return NULL;
}

qn_status qn__manifest_build(char **text, size_t *n, int64_t step, const char *run,
                             const struct qn__manifest_entry *entry, int n_entries, const char *path, qn_error *err)
{
    enum { TAIL = 64 };
    json_t *root = manifest_json(step, run, entry, n_entries);
    size_t body = root ? json_dumpb(root, NULL, 0, JSON_INDENT(1)) : 0, size = 0;
    *text = body > 2 && qn__add(&size, body, TAIL) ? malloc(size) : NULL;
    if (*text && json_dumpb(root, *text, body, JSON_INDENT(1)) != body) {
        free(*text);
        *text = NULL;
    }
    json_decref(root);
    if (!*text) return qn__nomem(err, "checkpoint manifest", size);
    /* The object's end, "\n}", makes room for one more member. */
    size_t at = body - 2;
    memcpy(*text + at, ",\n ", 3);
    at += 3;
    uint32_t crc = qn__crc32(0, *text, at);
    at += (size_t)snprintf(*text + at, size - at, TAIL_KEY "%08x\"\n}\n", (unsigned)crc);
    *n = at;
    if (at <= QN__MANIFEST_CAP) return QN_OK;
    free(*text);
    *text = NULL;
    return qn__fail(err, 4024, QN_AT_FILE(path), "manifest of %zu bytes; expected at most %d", at, QN__MANIFEST_CAP);
}

/* ---- parsing ------------------------------------------------------------------------------ */

/* jansson recurses; a hostile text must not choose how deep. Also finds NULs, which it would accept. */
static qn_status check_depth(const char *text, size_t n, const char *path, qn_error *err)
{
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (c == 0) return qn__fail(err, 4021, QN_AT_BYTE(path, (int64_t)i, NULL), "NUL; expected JSON");
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '{' || c == '[') && ++depth > MAX_JSON_DEPTH)
            return qn__fail(err, 4021, QN_AT_BYTE(path, (int64_t)i, NULL), "nesting deeper than %d", MAX_JSON_DEPTH);
        else if (!quoted && (c == '}' || c == ']'))
            depth--;
    }
    return QN_OK;
}

static bool parse_crc(const json_t *j, uint32_t *out)
{
    const char *s = json_string_value(j);
    if (!s || strlen(s) != 8 || strspn(s, "0123456789abcdef") != 8) return false;
    *out = (uint32_t)strtoul(s, NULL, 16);
    return true;
}

/* The text must end exactly as qn__manifest_build ends it. */
static qn_status check_tail(const char *text, size_t n, const char *path, qn_error *err)
{
    enum { TAIL = sizeof TAIL_KEY - 1 + 8 + 4 };
    char expected[TAIL + 1];
    if (n < TAIL) return qn__fail(err, 4021, QN_AT_FILE(path), "%zu bytes; expected at least %d", n, TAIL);
    uint32_t crc = qn__crc32(0, text, n - TAIL);
    snprintf(expected, sizeof expected, TAIL_KEY "%08x\"\n}\n", (unsigned)crc);
    if (memcmp(text + n - TAIL, expected, TAIL) == 0) return QN_OK;
    return qn__fail(err, 4032, QN_AT_BYTE(path, (int64_t)(n - TAIL), "manifest_crc32"),
                    "does not match; expected %08x (the manifest has changed since it was written)", (unsigned)crc);
}

static qn_status wrong(const char *path, const char *field, const char *expected, qn_error *err)
{
    struct qn__where where = { .file = path, .offset = -1, .field = field };
    return qn__fail(err, 4021, &where, "missing or of the wrong type; expected %s", expected);
}

static qn_status check_version(const json_t *root, const char *path, qn_error *err)
{
    const char *format = json_string_value(json_object_get(root, "format"));
    const json_t *version = json_object_get(root, "version");
    const char *quern = json_string_value(json_object_get(root, "quern"));
    if (!format || strcmp(format, FORMAT) != 0) return wrong(path, "format", "\"" FORMAT "\"", err);
    if (!json_is_integer(version) || json_integer_value(version) < 1)
        return wrong(path, "version", "an integer from 1", err);
    if (!quern) return wrong(path, "quern", "the version of the writer", err);
    if (json_integer_value(version) > QN_CHECKPOINT_VERSION) {
        struct qn__where where = { .file = path, .offset = -1, .field = "version" };
        return qn__fail(err, 4023, &where, "%lld; expected <= %d; use quern >= %s",
                        (long long)json_integer_value(version), QN_CHECKPOINT_VERSION, qn__show(quern).s);
    }
    return QN_OK;
}

static qn_status parse_file(struct qn__manifest *m, const char *name, json_t *entry, const char *path, qn_error *err)
{
    char field[300];
    snprintf(field, sizeof field, "file \"%.256s\"", name);
    struct qn__where where = { .file = path, .offset = -1, .field = field };
    const char *bad = qn__checkpoint_bad_name(name);
    if (bad || strcmp(name, QN__MANIFEST) == 0)
        return qn__fail(err, 4022, &where, "%s", bad ? bad : "a manifest cannot list itself");
    if (m->n_files == QN__MAX_FILES) return qn__fail(err, 4022, &where, "more than %d files", QN__MAX_FILES);
    struct qn__manifest_file *f = &m->file[m->n_files++];
    snprintf(f->name, sizeof f->name, "%s", name);
    json_t *bytes = json_object_get(entry, "bytes");
    f->bytes = json_integer_value(bytes);
    f->tensors = json_object_get(entry, "tensors");
    bool tensors = strcmp(name, QN__MODEL) == 0 || strcmp(name, QN__STATE) == 0;
    bool size_ok = json_is_integer(bytes) && f->bytes >= 0 &&
                   f->bytes <= (tensors ? (int64_t)1 << 49 : (int64_t)QN__PART_CAP);
    if (!size_ok || !parse_crc(json_object_get(entry, "crc32"), &f->crc) ||
        json_object_size(entry) != (tensors ? 3u : 2u) || tensors != json_is_object(f->tensors))
        return qn__fail(err, 4021, &where, "malformed; expected %s",
                        tensors ? "bytes, crc32 and tensors" : "bytes and crc32");
    const char *tensor;
    json_t *crc;
    uint32_t ignored;
    json_object_foreach(f->tensors, tensor, crc) if (!parse_crc(crc, &ignored)) return qn__fail(
        err, 4021, &where, "crc32 of tensor \"%s\" malformed; expected 8 hex digits", qn__show(tensor).s);
    return QN_OK;
}

static qn_status parse_root(struct qn__manifest *m, const char *path, qn_error *err)
{
    static const char *const keys[] = { "format", "version", "quern", "run", "step", "files", "manifest_crc32" };
    const char *key;
    json_t *value, *step = json_object_get(m->root, "step"), *files = json_object_get(m->root, "files");
    json_object_foreach(m->root, key, value)
    {
        size_t k = 0;
        while (k < sizeof keys / sizeof keys[0] && strcmp(keys[k], key) != 0) k++;
        if (k == sizeof keys / sizeof keys[0])
            return qn__fail(err, 4021, QN_AT_FILE(path), "unknown key \"%s\"", qn__show(key).s);
    }
    m->run = json_string_value(json_object_get(m->root, "run"));
    m->step = json_integer_value(step);
    if (!m->run || !*m->run || strlen(m->run) > 128) return wrong(path, "run", "1..128 bytes", err);
    if (!json_is_integer(step) || m->step < 0) return wrong(path, "step", "an integer from 0", err);
    if (!json_is_object(files)) return wrong(path, "files", "an object", err);
    json_object_foreach(files, key, value) QN_TRY(parse_file(m, key, value, path, err));
    if (!json_object_get(files, QN__MODEL) || !json_object_get(files, QN__STATE))
        return qn__fail(err, 4022, QN_AT_FILE(path), "lists no %s; expected both " QN__MODEL " and " QN__STATE,
                        json_object_get(files, QN__MODEL) ? QN__STATE : QN__MODEL);
    return QN_OK;
}

qn_status qn__manifest_parse(struct qn__manifest *out, const char *text, size_t n, const char *path, qn_error *err)
{
    json_error_t why;
    *out = (struct qn__manifest){ .root = NULL };
    if (n > QN__MANIFEST_CAP)
        return qn__fail(err, 4021, QN_AT_FILE(path), "%zu bytes; expected at most %d", n, QN__MANIFEST_CAP);
    QN_TRY(check_depth(text, n, path, err));
    out->root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
    if (!out->root && json_error_code(&why) == json_error_out_of_memory)
        return qn__nomem(err, "checkpoint manifest", n);
    if (!out->root)
        return qn__fail(err, 4021, QN_AT_LINE(path, why.line, why.column, NULL), "%s", qn__show(why.text).s);
    qn_status status = QN_OK;
    if (!json_is_object(out->root)) status = wrong(path, "manifest", "an object", err);
    /* A newer format may end differently, so its version comes before the checksum. */
    if (!status) status = check_version(out->root, path, err);
    if (!status) status = check_tail(text, n, path, err);
    if (!status) status = parse_root(out, path, err);
    if (status) qn__manifest_free(out);
    return status;
}

void qn__manifest_free(struct qn__manifest *m)
{
    json_decref(m->root);
    *m = (struct qn__manifest){ .root = NULL };
}
