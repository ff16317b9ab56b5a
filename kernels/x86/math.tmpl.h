/* math.tmpl.h - exp, tanh, erf and the activations made of them, on vectors.
 *
 * Include after vec_*.h. Errors against the true values: exp 2 units in the last
 * place, tanh 3, erf 2e-7 absolute. The gelu of the hyperbolic tangent and silu
 * are written as x / (1 + exp(-z)), which has no cancellation.
 */
#ifndef CORDEE_KERNELS_X86_MATH_TMPL_H
#define CORDEE_KERNELS_X86_MATH_TMPL_H

#define V_LOG2E 1.44269504088896341f

/* e^x: x = n ln 2 + r, a polynomial in |r| <= ln 2 / 2, and 2^n put into the
 * exponent. Below -87.3 the result would be subnormal: 0. Above 88.3: e^88.3. */
INLINE vf v_exp(vf x)
{
    vf in = v_min(v_max(x, v_set(-87.3f)), v_set(88.3f));
    vf n = v_round(v_mul(in, v_set(V_LOG2E)));
    vf r = v_fma(n, v_set(-0.693359375f), in);
    r = v_fma(n, v_set(2.12194440e-4f), r); /* ln 2 in two parts: the first times n is exact */
    vf p = v_set(1.9875691500e-4f);
    p = v_fma(p, r, v_set(1.3981999507e-3f));
    p = v_fma(p, r, v_set(8.3334519073e-3f));
    p = v_fma(p, r, v_set(4.1665795894e-2f));
    p = v_fma(p, r, v_set(1.6666665459e-1f));
    p = v_fma(p, r, v_set(5.0000001201e-1f));
    p = v_add(v_fma(p, v_mul(r, r), r), v_set(1));
    return v_if_less(x, v_set(-87.3f), v_zero(), v_mul(p, v_pow2(n)));
}

/* 1 / (1 + e^-x). */
INLINE vf v_sigmoid(vf x)
{
    return v_div(v_set(1), v_add(v_set(1), v_exp(v_sub(v_zero(), x))));
}

/* Near 0 an odd polynomial, else through exp: 1 - 2 / (e^2x + 1) loses digits there. */
INLINE vf v_tanh(vf x)
{
    vf z = v_mul(x, x), p = v_set(-5.70498872745e-3f);
    p = v_fma(p, z, v_set(2.06390887954e-2f));
    p = v_fma(p, z, v_set(-5.37397155531e-2f));
    p = v_fma(p, z, v_set(1.33314422036e-1f));
    p = v_fma(p, z, v_set(-3.33332819422e-1f));
    p = v_fma(v_mul(p, z), x, x);
    vf far = v_sub(v_set(1), v_div(v_set(2), v_add(v_exp(v_add(x, x)), v_set(1))));
    return v_if_less(v_abs(x), v_set(0.625f), p, far);
}

/* Abramowitz and Stegun 7.1.26. */
INLINE vf v_erf(vf x)
{
    vf a = v_abs(x), t = v_div(v_set(1), v_fma(a, v_set(0.3275911f), v_set(1)));
    vf p = v_set(1.061405429f);
    p = v_fma(p, t, v_set(-1.453152027f));
    p = v_fma(p, t, v_set(1.421413741f));
    p = v_fma(p, t, v_set(-0.284496736f));
    p = v_fma(p, t, v_set(0.254829592f));
    p = v_mul(v_mul(p, t), v_exp(v_sub(v_zero(), v_mul(a, a))));
    p = v_sub(v_set(1), p);
    return v_if_less(x, v_zero(), v_sub(v_zero(), p), p);
}

INLINE vf v_silu(vf x)
{
    return v_div(x, v_add(v_set(1), v_exp(v_sub(v_zero(), x))));
}

/* x/2 (1 + tanh u) = x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3). */
INLINE vf v_gelu_tanh(vf x)
{
    vf u = v_mul(x, v_fma(v_mul(x, x), v_set(-2 * 0.79788456f * 0.044715f), v_set(-2 * 0.79788456f)));
    return v_div(x, v_add(v_set(1), v_exp(u)));
}

INLINE vf v_gelu_erf(vf x)
{
    vf half = v_mul(x, v_set(0.5f));
    return v_fma(half, v_erf(v_mul(x, v_set(0.70710678f))), half);
}

INLINE vf v_relu(vf x)
{
    return v_max(x, v_zero());
}

INLINE vf v_relu2(vf x)
{
    return v_mul(v_relu(x), v_relu(x));
}

#endif
