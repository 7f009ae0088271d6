/* fuzz_manifest.c - any text as a checkpoint's manifest: as it is, and with the checksum line that lets it
 * past the first door. */
#include "../../core/checkpoint.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
    if (!good) abort(); /* libFuzzer reports the input */
}

static void parse(const char *text, size_t n)
{
    struct qn__manifest m;
    qn_error err = { 0 };
    qn_status status = qn__manifest_parse(&m, text, n, "fuzz", &err);
    check(status == QN_OK || status == QN_EMODEL);
    check(!strchr(err.text, '\n') && (status == QN_OK) == (err.code == 0));
    if (status) {
        check(m.root == NULL);
        return;
    }
    check(m.step >= 0 && m.n_files >= 2 && m.n_files <= QN__MAX_FILES);
    for (int i = 0; i < m.n_files; i++) check(!qn__checkpoint_bad_name(m.file[i].name) && m.file[i].bytes >= 0);
    qn__manifest_free(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 100);
    if (!text) return 0;
    if (size) memcpy(text, data, size);
    parse(text, size);
    /* The object's end makes room for the checksum, as the writer does it. */
    while (size > 0 && strchr(" \t\r\n", text[size - 1])) size--;
    if (size > 0 && text[size - 1] == '}') size--;
    size += (size_t)snprintf(text + size, 100, ",\n ");
    uint32_t crc = qn__crc32(0, text, size);
    size += (size_t)snprintf(text + size, 90, "\"manifest_crc32\": \"%08x\"\n}\n", (unsigned)crc);
    parse(text, size);
    free(text);
    return 0;
}
