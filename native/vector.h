/* Vectors of float and int32, as wide as the instruction set that this file is compiled for.
 *
 * dot4 adds four products of bytes to each int32 lane: unsigned in the first operand, signed in the
 * second, exactly (no 16-bit saturation on any machine).
 *
 * vf_halves reads floats in half precision, exactly; vf_store_halves writes them.
 */
#ifndef MYNAH_VECTOR_H
#define MYNAH_VECTOR_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#if defined(MYNAH_AVX512VNNI)

#include <immintrin.h>
#define LANES 16
#define WIDE 4 /* vectors of a tile that are computed together */
#define GROUP 6
typedef __m512 vf;
typedef __m512i vi;
INLINE vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void vf_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
INLINE vf vf_all(float a) { return _mm512_set1_ps(a); }
INLINE vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
INLINE vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
INLINE vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
INLINE vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
INLINE vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
INLINE vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
INLINE vf vf_abs(vf a) { return _mm512_abs_ps(a); }
INLINE float vf_sum(vf a) { return _mm512_reduce_add_ps(a); }
INLINE float vf_peak(vf a) { return _mm512_reduce_max_ps(a); }
INLINE vi vi_load(const void *p) { return _mm512_loadu_si512(p); }
INLINE void vi_store(void *p, vi a) { _mm512_storeu_si512(p, a); }
INLINE vi vi_all(int32_t a) { return _mm512_set1_epi32(a); }
INLINE vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
INLINE int32_t vi_sum(vi a) { return _mm512_reduce_add_epi32(a); }
INLINE vf vi_float(vi a) { return _mm512_cvtepi32_ps(a); }
INLINE vi vf_round(vf a) { return _mm512_cvtps_epi32(a); }
INLINE void vi_store_bytes(void *p, vi a) { _mm_storeu_si128(p, _mm512_cvtepi32_epi8(a)); }
#define FOUR_AT_ONCE 1
INLINE void vi_store_bytes4(void *p, const vi *a) { /* of four vectors, each 0 .. 255 */
    vi low = _mm512_packus_epi32(a[0], a[1]), high = _mm512_packus_epi32(a[2], a[3]);
    const vi order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    vi_store(p, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high)));
}
INLINE vi vi_shorts(const int16_t *p) {
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)p));
}
INLINE vf vf_shorts(const int16_t *p) { return _mm512_cvtepi32_ps(vi_shorts(p)); }
INLINE vf vf_halves(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
INLINE void vf_round_halves(uint16_t *p, vf a) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
INLINE vf vf_power2(vi n) { /* 2 ** n */
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}
INLINE vi dot4(vi sum, vi u, vi s) {
    /* by hand: as an intrinsic, GCC copies sums from register to register */
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u), "v"(s));
    return sum;
}
INLINE vi dot2(vi sum, vi a, vi b) { /* two products of words to each lane */
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

#elif defined(MYNAH_AVX2) || defined(MYNAH_AVXVNNI)

#include <immintrin.h>
#define LANES 8
#define WIDE 2
#define GROUP 4
typedef __m256 vf;
typedef __m256i vi;
INLINE vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void vf_store(float *p, vf a) { _mm256_storeu_ps(p, a); }
INLINE vf vf_all(float a) { return _mm256_set1_ps(a); }
INLINE vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
INLINE vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
INLINE vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
INLINE vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
INLINE vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
INLINE vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
INLINE vf vf_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
INLINE float vf_sum(vf a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
INLINE float vf_peak(vf a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
INLINE vi vi_load(const void *p) { return _mm256_loadu_si256(p); }
INLINE void vi_store(void *p, vi a) { _mm256_storeu_si256(p, a); }
INLINE vi vi_all(int32_t a) { return _mm256_set1_epi32(a); }
INLINE vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
INLINE int32_t vi_sum(vi a) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}
INLINE vf vi_float(vi a) { return _mm256_cvtepi32_ps(a); }
INLINE vi vf_round(vf a) { return _mm256_cvtps_epi32(a); }
INLINE void vi_store_bytes(void *p, vi a) { /* the lowest byte of each lane */
    const __m256i pick = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                          -1, 0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                          -1, -1);
    __m256i b = _mm256_shuffle_epi8(a, pick);
    int32_t halves[2] = {_mm256_extract_epi32(b, 0), _mm256_extract_epi32(b, 4)};
    memcpy(p, halves, 8);
}
INLINE vf vf_shorts(const int16_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)p)));
}
INLINE vf vf_halves(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
INLINE void vf_round_halves(uint16_t *p, vf a) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
INLINE vf vf_power2(vi n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
#if defined(MYNAH_AVXVNNI)
INLINE vi dot4(vi sum, vi u, vi s) { return _mm256_dpbusd_avx_epi32(sum, u, s); }
#else
INLINE vi dot4(vi sum, vi u, vi s) { /* even and odd bytes as 16-bit numbers */
    vi even = _mm256_madd_epi16(_mm256_and_si256(u, _mm256_set1_epi16(255)),
                                _mm256_srai_epi16(_mm256_slli_epi16(s, 8), 8));
    vi odd = _mm256_madd_epi16(_mm256_srli_epi16(u, 8), _mm256_srai_epi16(s, 8));
    return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}
#endif

#elif defined(MYNAH_NEON) || defined(MYNAH_I8MM)

#include <arm_neon.h>
#define LANES 4
#define WIDE 4
#define GROUP 4
typedef float32x4_t vf;
typedef int32x4_t vi;
INLINE vf vf_load(const float *p) { return vld1q_f32(p); }
INLINE void vf_store(float *p, vf a) { vst1q_f32(p, a); }
INLINE vf vf_all(float a) { return vdupq_n_f32(a); }
INLINE vf vf_add(vf a, vf b) { return vaddq_f32(a, b); }
INLINE vf vf_sub(vf a, vf b) { return vsubq_f32(a, b); }
INLINE vf vf_mul(vf a, vf b) { return vmulq_f32(a, b); }
INLINE vf vf_div(vf a, vf b) { return vdivq_f32(a, b); }
INLINE vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
INLINE vf vf_max(vf a, vf b) { return vmaxq_f32(a, b); }
INLINE vf vf_min(vf a, vf b) { return vminq_f32(a, b); }
INLINE vf vf_abs(vf a) { return vabsq_f32(a); }
INLINE float vf_sum(vf a) { return vaddvq_f32(a); }
INLINE float vf_peak(vf a) { return vmaxvq_f32(a); }
INLINE vi vi_load(const void *p) { return vld1q_s32(p); }
INLINE void vi_store(void *p, vi a) { vst1q_s32(p, a); }
INLINE vi vi_all(int32_t a) { return vdupq_n_s32(a); }
INLINE vi vi_add(vi a, vi b) { return vaddq_s32(a, b); }
INLINE int32_t vi_sum(vi a) { return vaddvq_s32(a); }
INLINE vf vi_float(vi a) { return vcvtq_f32_s32(a); }
INLINE vi vf_round(vf a) { return vcvtnq_s32_f32(a); }
INLINE void vi_store_bytes(void *p, vi a) {
    uint16x4_t half = vmovn_u32(vreinterpretq_u32_s32(a));
    uint8x8_t bytes = vmovn_u16(vcombine_u16(half, half));
    uint32_t low = vget_lane_u32(vreinterpret_u32_u8(bytes), 0);
    memcpy(p, &low, 4);
}
INLINE vf vf_shorts(const int16_t *p) { return vcvtq_f32_s32(vmovl_s16(vld1_s16(p))); }
INLINE vf vf_halves(const uint16_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
INLINE void vf_round_halves(uint16_t *p, vf a) {
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a)));
}
INLINE vf vf_power2(vi n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}
#if defined(MYNAH_I8MM)
INLINE vi dot4(vi sum, vi u, vi s) {
    return vusdotq_s32(sum, vreinterpretq_u8_s32(u), vreinterpretq_s8_s32(s));
}
#else
INLINE vi dot4(vi sum, vi u, vi s) { /* u = 128 + a signed byte */
    int8x16_t low = vreinterpretq_s8_s32(veorq_s32(u, vdupq_n_s32((int32_t)0x80808080u)));
    int8x16_t bytes = vreinterpretq_s8_s32(s);
    vi all = vdotq_s32(vdupq_n_s32(0), vdupq_n_s8(1), bytes);
    return vaddq_s32(vdotq_s32(sum, low, bytes), vshlq_n_s32(all, 7));
}
#endif

#else /* any machine: one lane */

#define LANES 1
#define WIDE 4
#define GROUP 2
typedef float vf;
typedef int32_t vi;
INLINE vf vf_load(const float *p) { return *p; }
INLINE void vf_store(float *p, vf a) { *p = a; }
INLINE vf vf_all(float a) { return a; }
INLINE vf vf_add(vf a, vf b) { return a + b; }
INLINE vf vf_sub(vf a, vf b) { return a - b; }
INLINE vf vf_mul(vf a, vf b) { return a * b; }
INLINE vf vf_div(vf a, vf b) { return a / b; }
INLINE vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
INLINE vf vf_max(vf a, vf b) { return a > b ? a : b; }
INLINE vf vf_min(vf a, vf b) { return a < b ? a : b; }
INLINE vf vf_abs(vf a) { return fabsf(a); }
INLINE float vf_sum(vf a) { return a; }
INLINE float vf_peak(vf a) { return a; }
INLINE vi vi_load(const void *p) { vi a; memcpy(&a, p, 4); return a; }
INLINE void vi_store(void *p, vi a) { memcpy(p, &a, 4); }
INLINE vi vi_all(int32_t a) { return a; }
INLINE vi vi_add(vi a, vi b) { return a + b; }
INLINE int32_t vi_sum(vi a) { return a; }
INLINE vf vi_float(vi a) { return (float)a; }
INLINE vi vf_round(vf a) { return (vi)lrintf(a); }
INLINE void vi_store_bytes(void *p, vi a) { *(uint8_t *)p = (uint8_t)a; }
INLINE vf vf_shorts(const int16_t *p) { return (float)*p; }
INLINE vf vf_halves(const uint16_t *p) {
    uint32_t size = *p & 0x7fff, bits = size << 13;
    if (size < 0x400) return (*p >> 15 ? -0x1p-24f : 0x1p-24f) * (float)size; /* steps of the least */
    bits += size < 0x7c00 ? 112u << 23 : 224u << 23; /* the exponent; that of no number stays so */
    bits |= (uint32_t)(*p >> 15) << 31;
    float a;
    memcpy(&a, &bits, 4);
    return a;
}
INLINE void vf_round_halves(uint16_t *p, vf a) {
    uint32_t bits, rounded;
    memcpy(&bits, &a, 4);
    if (a != a)
        rounded = 0x7e00;
    else if (fabsf(a) < 0x1p-14f)
        rounded = (uint32_t)lrintf(fabsf(a) * 0x1p24f);
    else
        rounded = ((bits & 0x7fffffff) + 0xfff + (bits >> 13 & 1) - (112u << 23)) >> 13;
    *p = (uint16_t)(bits >> 31 << 15 | rounded);
}
INLINE vf vf_power2(vi n) { return ldexpf(1.0f, n); }
INLINE vi dot4(vi sum, vi u, vi s) {
    uint8_t a[4];
    int8_t b[4];
    memcpy(a, &u, 4);
    memcpy(b, &s, 4);
    return sum + a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3];
}

#endif

#if !defined(FOUR_AT_ONCE)
INLINE void vi_store_bytes4(void *p, const vi *a) {
    for (int i = 0; i < 4; i++) vi_store_bytes((uint8_t *)p + i * LANES, a[i]);
}
#endif

/* Floats to the nearest halves (IEEE binary16); those beyond the largest half become that one, and what
 * is no number stays so. */
INLINE void vf_store_halves(uint16_t *p, vf a) {
    vf_round_halves(p, vf_min(vf_all(65504.0f), vf_max(vf_all(-65504.0f), a)));
}

/* e ** a to 2e-7 relative (Cephes: 2 ** n times a polynomial on [-ln 2 / 2, ln 2 / 2]). */
INLINE vf vf_exp(vf a) {
    a = vf_min(vf_max(a, vf_all(-87.0f)), vf_all(88.0f));
    vi n = vf_round(vf_mul(a, vf_all(1.44269504f)));
    vf r = vf_fma(vi_float(n), vf_all(-0.693359375f), a);
    r = vf_fma(vi_float(n), vf_all(2.12194440e-4f), r);
    vf p = vf_all(1.9875691500e-4f);
    p = vf_fma(p, r, vf_all(1.3981999507e-3f));
    p = vf_fma(p, r, vf_all(8.3334519073e-3f));
    p = vf_fma(p, r, vf_all(4.1665795894e-2f));
    p = vf_fma(p, r, vf_all(1.6666665459e-1f));
    p = vf_fma(p, r, vf_all(5.0000001201e-1f));
    p = vf_add(vf_fma(vf_mul(p, r), r, r), vf_all(1.0f));
    return vf_mul(p, vf_power2(n));
}

/* 2 ** a to 1.1e-4 relative, 0 far below zero: enough for what becomes a number of eight bits. */
#if defined(MYNAH_AVX512VNNI)
INLINE vf vf_exp2_coarse(vf a) {
    vf r = _mm512_reduce_ps(a, 9), p = vf_all(0.0780245f); /* 9: what is above the whole number below */
    p = vf_fma(p, r, vf_all(0.226067184f));
    p = vf_fma(p, r, vf_all(0.69583349f));
    p = vf_fma(p, r, vf_all(0.99992523f));
    return _mm512_scalef_ps(p, a);
}
#else
INLINE vf vf_exp2_coarse(vf a) {
    a = vf_max(a, vf_all(-125.0f));
    vi n = vf_round(a);
    vf r = vf_sub(a, vi_float(n));
    vf p = vf_fma(vf_all(0.055088767f), r, vf_all(0.242604656f));
    p = vf_fma(p, r, vf_all(0.693276283f));
    p = vf_fma(p, r, vf_all(0.999928905f));
    return vf_mul(p, vf_power2(n));
}
#endif

#endif
