/* color.c - the palettes of the charts: see canvas.h. */
#include "canvas.h"
#include <math.h>

qn__color qn__palette(int index)
{
    static const qn__color colors[8] = {
        0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7, 0xe69f00, 0x56b4e9, 0x4b5563, 0x8b5a2b
    };
    return colors[((index % 8) + 8) % 8];
}

qn__color qn__mix(qn__color a, qn__color b, double t)
{
    qn__color out = 0;
    t = t > 0 ? t < 1 ? t : 1 : 0; /* NaN too becomes 0 */
    for (int shift = 0; shift < 24; shift += 8) {
        double from = (double)(a >> shift & 0xff), to = (double)(b >> shift & 0xff);
        out |= (qn__color)lround(from + t * (to - from)) << shift;
    }
    return out;
}

/* n colours spread evenly over 0..1. */
static qn__color ramp(const qn__color *stops, int n, double t)
{
    t = t > 0 ? t < 1 ? t : 1 : 0;
    double at = t * (n - 1);
    int i = (int)at < n - 2 ? (int)at : n - 2;
    return qn__mix(stops[i], stops[i + 1], at - i);
}

qn__color qn__sequential(double t)
{
    static const qn__color stops[] = { 0xfafcff, 0xd9e8f5, 0xa6cbe5, 0x5ea3d0, 0x2474b5, 0x0b3c7c };
    return ramp(stops, 6, t);
}

qn__color qn__diverging(double t)
{
    static const qn__color stops[] = { 0x123f75, 0x3a85bf, 0xa3cbe2, 0xf7f7f7, 0xf5b89a, 0xd15a4b, 0x7d1028 };
    return ramp(stops, 7, 0.5 + 0.5 * t);
}

qn__color qn__heat(double t)
{
    static const qn__color stops[] = { 0x000004, 0x3b0f70, 0x8c2981, 0xde4968, 0xfe9f6d, 0xfcfdbf };
    return ramp(stops, 6, t);
}

qn__color qn__ink_on(qn__color b)
{
    /* relative luminance's weights; the threshold is where black and white read equally well */
    double light = 0.299 * (double)(b >> 16 & 0xff) + 0.587 * (double)(b >> 8 & 0xff) + 0.114 * (double)(b & 0xff);
    return light < 140 ? QN__PAPER : QN__INK;
}
