/* json_scan.h - private to json.c and json_scan.c. */
#ifndef QN_TRAIN_JSON_SCAN_H
#define QN_TRAIN_JSON_SCAN_H
#include "json.h"

/* Where a value, and its key, begin; in document order. */
struct qn__spot {
    int32_t line, column, key_line, key_column;
    int32_t parent;        /* index of the enclosing value, -1 for the root  */
    uint32_t key, key_len; /* the key's raw bytes, without quotes; 0, 0 none */
};

struct qn__spots {
    struct qn__spot *v;
    size_t n, cap;
};

/* Checks that text is one JSON value with comments; blanks the comments in place; fills spots (free
 * v). false after a problem. */
bool qn__json_scan(char *text, size_t bytes, struct qn__spots *spots, struct qn__report *report);
#endif
