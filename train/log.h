/* log.h - what the JSONL and event writers share: a file that may fill up without ending the run. */
#ifndef QN_TRAIN_LOG_H
#define QN_TRAIN_LOG_H
#include "../include/quern/log.h"

/* An append-only file. Records go in whole or not at all. */
struct qn__sink {
    int fd;
    int64_t lost; /* records that could not be written */
    bool told;    /* the first loss has been reported  */
    bool torn;    /* half a record may lie at the end and could not be taken back */
    char path[4096];
};

/* Appends one record. Reports the first failure (E6002), counts every one. */
qn_status qn__sink_write(struct qn__sink *s, const void *data, size_t n, qn_error *err);
qn_status qn__sink_close(struct qn__sink *s, qn_error *err);

/* How long the file is now; -1 if it is not a plain file. */
int64_t qn__log_bytes(const qn_logger *log);
/* Cuts a log back to `bytes` if a line ends there and more follows: what a run wrote after the checkpoint from which it
 * is continued will be written again. */
void qn__log_trim(qn_logger *log, int64_t bytes);

/* write(2) of all n bytes, without raising SIGPIPE; 0 or an errno. *done: bytes that went out. */
int qn__write_quiet(int fd, const void *data, size_t n, size_t *done);
#endif
