/* Sine and cosine of vectors, to 1e-7 for arguments up to about 25 000.
 *
 * The multiple of pi that is nearest is taken off in three parts (Cody and Waite), of which the first
 * two have so few bits that their products with it are exact; a polynomial does the rest.
 */
#ifndef MYNAH_SINE_H
#define MYNAH_SINE_H

#include "vector.h"

#define INVERSE_PI 0.318309886f

INLINE vf vf_nearest(vf a) { return vi_float(vf_round(a)); }

/* a - n pi */
INLINE vf vf_less_pi(vf a, vf n) {
    a = vf_fma(n, vf_all(-3.140625f), a);
    a = vf_fma(n, vf_all(-9.67502593994140625e-4f), a);
    return vf_fma(n, vf_all(-1.50995799097837643e-7f), a);
}

/* The sine between -pi / 2 and pi / 2. */
INLINE vf vf_sin_half(vf r) {
    vf z = vf_mul(r, r), p = vf_all(2.6087882e-6f);
    p = vf_fma(p, z, vf_all(-1.98110528e-4f));
    p = vf_fma(p, z, vf_all(8.33308743e-3f));
    p = vf_fma(p, z, vf_all(-1.66666604e-1f));
    return vf_fma(vf_mul(p, z), r, r);
}

/* 1 for even n, -1 for odd n */
INLINE vf vf_sign_of_turn(vf n) {
    vf half = vf_mul(n, vf_all(0.5f)), rest = vf_sub(half, vf_nearest(half));
    return vf_fma(vf_mul(rest, rest), vf_all(-8.0f), vf_all(1.0f));
}

INLINE vf vf_sin(vf a) {
    vf n = vf_nearest(vf_mul(a, vf_all(INVERSE_PI)));
    return vf_mul(vf_sign_of_turn(n), vf_sin_half(vf_less_pi(a, n)));
}

INLINE vf vf_cos(vf a) { /* cos a = -(-1)^n sin(a - (n + 1/2) pi) */
    vf n = vf_nearest(vf_fma(a, vf_all(INVERSE_PI), vf_all(-0.5f)));
    vf r = vf_less_pi(a, vf_add(n, vf_all(0.5f)));
    return vf_mul(vf_sign_of_turn(vf_add(n, vf_all(1.0f))), vf_sin_half(r));
}

/* x + sin^2(alpha x) * inverse */
INLINE vf vf_snake(vf x, vf alpha, vf inverse) {
    vf a = vf_mul(alpha, x);
    vf s = vf_sin_half(vf_less_pi(a, vf_nearest(vf_mul(a, vf_all(INVERSE_PI)))));
    return vf_fma(vf_mul(s, s), inverse, x);
}

#endif
