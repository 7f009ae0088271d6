/* progress.h - the pieces of the progress line that its test checks by themselves. */
#ifndef QN_TRAIN_PROGRESS_H
#define QN_TRAIN_PROGRESS_H
#include "../include/quern/log.h"

/* "0:42", "1:02:03", "3d 4h"; "-" for what is not a time. */
const char *qn__clock_text(char buf[32], double seconds);
/* "812", "21.3k", "1.25M": three digits that matter. */
const char *qn__rate_text(char buf[32], double per_second);
/* Columns that UTF-8 text takes, one for each code point. */
int qn__columns(const char *text);
#endif
