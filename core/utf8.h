/* utf8.h - is it UTF-8 (RFC 3629)? */
#ifndef QN_CORE_UTF8_H
#define QN_CORE_UTF8_H
#include <stddef.h>

/* Bytes of the well-formed sequence that begins `text`, of which there are n bytes; 0 if none does. */
size_t qn__utf8_length(const void *text, size_t n);
/* First byte that does not belong to a well-formed sequence, or n. */
size_t qn__utf8_error(const void *text, size_t n);
#endif
