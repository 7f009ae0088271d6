/* events.h - the parts of the event writer that its test checks by themselves. */
#ifndef QN_TRAIN_EVENTS_H
#define QN_TRAIN_EVENTS_H
#include "../include/quern/log.h"

/* CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), as in RFC 3720 appendix B.4. */
uint32_t qn__crc32c(uint32_t crc, const void *data, size_t n);
/* The form in which record files hold it: rotated by 15 bits, plus a constant, because a CRC over
 * data that holds CRCs of itself is weak (TensorFlow, core/lib/hash/crc32c.h). */
uint32_t qn__crc32c_masked(const void *data, size_t n);
#endif
