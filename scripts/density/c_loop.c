/* The summed mixture log-density and its gradients as a plain C loop: a limit for benchmark.py.

   One thread, blocks of 256 weights, every inner loop over the weights of a block and vectorised.
   REAL is float or double. Compiled by the script with -O3 -march=native -ffast-math. */

#include <math.h>
#include <stdint.h>

#ifdef DOUBLE
typedef double real;
typedef int64_t integer;
#define TERMS 13           /* of exp's series on |x| <= log(2) / 2: below 1e-16 */
#define MANTISSA 52
#define BIAS 1023
#define SMALLEST -600.0    /* exp of less changes no sum, and would be a denormal */
#define LOG log
#define RINT rint
#else
typedef float real;
typedef int32_t integer;
#define TERMS 7            /* below 1e-8 */
#define MANTISSA 23
#define BIAS 127
#define SMALLEST -60.0f
#define LOG logf
#define RINT rintf
#endif

#define BLOCK 256

/* exp(x) = 2^n exp(x - n log 2), for SMALLEST <= x <= 0; no call, so that loops over it vectorise. */
static inline real exponential(real x)
{
    const real n = RINT(x * (real)1.4426950408889634);
    const real f = (x - n * (real)0.693145751953125) - n * (real)1.4286068203094172e-6;
    real series = 1;
#pragma GCC unroll 16
    for (int k = TERMS; k > 0; k--)
        series = 1 + series * f * ((real)1 / k);
    union { integer bits; real value; } power = {((integer)n + BIAS) << MANTISSA};
    return series * power.value;
}

/* w (n) and the mixture (components) -> returns the value; fills w_gradient (n) and sums
   (3, components): of r, r d and r d^2, with r the responsibilities and d = w - means.
   scratch is (components, BLOCK); constants are log(proportion) + log(precision / 2 pi) / 2. */
double density(const real *restrict w, int64_t n, const real *restrict means,
               const real *restrict precisions, const real *restrict constants, int components,
               real *restrict w_gradient, double *restrict sums, real *restrict scratch)
{
    double total = 0;
    for (int k = 0; k < 3 * components; k++)
        sums[k] = 0;
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int used = n - start < BLOCK ? (int)(n - start) : BLOCK;
        const real *restrict x = w + start;
        real *restrict gradient = w_gradient + start;
        real top[BLOCK], normaliser[BLOCK];
        for (int i = 0; i < used; i++)
            top[i] = (real)-3e38, normaliser[i] = 0;
        for (int j = 0; j < components; j++) {
            const real mean = means[j], half = (real)-0.5 * precisions[j], constant = constants[j];
            real *restrict joint = scratch + (int64_t)j * BLOCK;
            for (int i = 0; i < used; i++) {
                const real d = x[i] - mean;
                const real value = constant + half * d * d;
                joint[i] = value;
                top[i] = value > top[i] ? value : top[i];
            }
        }
        for (int j = 0; j < components; j++) {
            real *restrict joint = scratch + (int64_t)j * BLOCK;
            for (int i = 0; i < used; i++) {
                const real below = joint[i] - top[i];
                joint[i] = exponential(below > SMALLEST ? below : SMALLEST);
                normaliser[i] += joint[i];
            }
        }
        real block_total = 0;
        for (int i = 0; i < used; i++) {
            block_total += top[i] + LOG(normaliser[i]);
            normaliser[i] = 1 / normaliser[i];
            gradient[i] = 0;
        }
        total += block_total;
        for (int j = 0; j < components; j++) {
            const real mean = means[j], precision = precisions[j];
            const real *restrict joint = scratch + (int64_t)j * BLOCK;
            real count = 0, first = 0, second = 0;
            for (int i = 0; i < used; i++) {
                const real d = x[i] - mean, r = joint[i] * normaliser[i], rd = r * d;
                count += r;
                first += rd;
                second += rd * d;
                gradient[i] -= precision * rd;
            }
            sums[j] += count;
            sums[components + j] += first;
            sums[2 * components + j] += second;
        }
    }
    return total;
}
