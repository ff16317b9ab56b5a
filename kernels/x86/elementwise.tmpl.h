/* elementwise.tmpl.h - norms, rotation, activations and reductions over one row.
 *
 * Include after vec_*.h with ISA_FN(name) defined as name ## _isa. Sums run in
 * V_LANES lanes (norms: four vectors wide), then in the fixed tree of
 * v_reduce_add: the order depends on n alone. The last vector of a row is
 * masked; nothing past n is read or written.
 */
#include <math.h>

#include "kernels/table.h"
#include "kernels/x86/math.tmpl.h"

/* Vector i of a row; lanes past n read as zero. */
INLINE vf row_load(const float *x, int i, int n)
{
    return n - i >= V_LANES ? v_loadf(x + i) : v_loadf_n(x + i, n - i);
}

INLINE void row_store(float *y, int i, int n, vf x)
{
    if (n - i >= V_LANES)
        v_storef(y + i, x);
    else
        v_storef_n(y + i, x, n - i);
}

/* Sum of (x - mean)^2. */
INLINE float sum_squares(const float *x, float mean, int n)
{
    vf sum[4] = {v_zero(), v_zero(), v_zero(), v_zero()}, c = v_set(mean);
    int i = 0;
    for (; i + 4 * V_LANES <= n; i += 4 * V_LANES) {
        UNROLL
        for (int j = 0; j < 4; j++) {
            vf v = v_sub(v_loadf(x + i + j * V_LANES), c);
            sum[j] = v_fma(v, v, sum[j]);
        }
    }
    for (; i < n; i += V_LANES) {
        vf v = n - i >= V_LANES ? v_sub(v_loadf(x + i), c)
                                : v_if_less(v_iota(), v_set((float)(n - i)), v_sub(v_loadf_n(x + i, n - i), c), v_zero());
        sum[0] = v_fma(v, v, sum[0]);
    }
    return v_reduce_add(v_add(v_add(sum[0], sum[1]), v_add(sum[2], sum[3])));
}

INLINE float sum_row(const float *x, int n)
{
    vf sum = v_zero();
    for (int i = 0; i < n; i += V_LANES)
        sum = v_add(sum, row_load(x, i, n));
    return v_reduce_add(sum);
}

void ISA_FN(rmsnorm)(float *y, const float *x, const float *g, float eps, int n)
{
    vf s = v_set(1 / sqrtf(sum_squares(x, 0, n) / (float)n + eps));
    for (int i = 0; i < n; i += V_LANES)
        row_store(y, i, n, v_mul(v_mul(row_load(x, i, n), s), row_load(g, i, n)));
}

void ISA_FN(layernorm)(float *y, const float *x, const float *g, const float *b, float eps, int n)
{
    float mean = sum_row(x, n) / (float)n;
    vf s = v_set(1 / sqrtf(sum_squares(x, mean, n) / (float)n + eps)), c = v_set(mean);
    for (int i = 0; i < n; i += V_LANES) {
        vf v = v_mul(v_mul(v_sub(row_load(x, i, n), c), s), row_load(g, i, n));
        row_store(y, i, n, b ? v_add(v, row_load(b, i, n)) : v);
    }
}

void ISA_FN(rope_halves)(float *x, const float *cs, int n_heads, int head_dim, int n_rot)
{
    int half = n_rot / 2, whole = half / V_LANES * V_LANES;
    for (int h = 0; h < n_heads; h++, x += head_dim) {
        for (int i = 0; i < whole; i += V_LANES) {
            vf a = v_loadf(x + i), b = v_loadf(x + half + i), c, s;
            v_deinterleave(v_loadf(cs + 2 * i), v_loadf(cs + 2 * i + V_LANES), &c, &s);
            v_storef(x + i, v_sub(v_mul(a, c), v_mul(b, s)));
            v_storef(x + half + i, v_add(v_mul(a, s), v_mul(b, c)));
        }
        for (int i = whole; i < half; i++) {
            float a = x[i], b = x[half + i];
            x[i] = a * cs[2 * i] - b * cs[2 * i + 1];
            x[half + i] = a * cs[2 * i + 1] + b * cs[2 * i];
        }
    }
}

void ISA_FN(rope_pairs)(float *x, const float *cs, int n_heads, int head_dim, int n_rot)
{
    for (int h = 0; h < n_heads; h++, x += head_dim)
        for (int i = 0; i < n_rot; i += V_LANES)
            row_store(x, i, n_rot, v_rotate_pairs(row_load(x, i, n_rot), row_load(cs, i, n_rot)));
}

/* One function and one gated function for each plain activation. */
#define ACTIVATION_PAIR(name)                                                                   \
    void ISA_FN(act_##name)(float *y, const float *x, int n)                                    \
    {                                                                                           \
        for (int i = 0; i < n; i += V_LANES)                                                    \
            row_store(y, i, n, v_##name(row_load(x, i, n)));                                    \
    }                                                                                           \
    void ISA_FN(glu_##name)(float *y, const float *gate, const float *up, int n)                \
    {                                                                                           \
        for (int i = 0; i < n; i += V_LANES)                                                    \
            row_store(y, i, n, v_mul(v_##name(row_load(gate, i, n)), row_load(up, i, n)));      \
    }
ACTIVATION_PAIR(silu)
ACTIVATION_PAIR(gelu_tanh)
ACTIVATION_PAIR(gelu_erf)
ACTIVATION_PAIR(relu)
ACTIVATION_PAIR(relu2)
#undef ACTIVATION_PAIR

/* gpt-oss: both sides clamped at 7, the gate only from above. */
void ISA_FN(glu_swiglu_oai)(float *y, const float *gate, const float *up, int n)
{
    for (int i = 0; i < n; i += V_LANES) {
        vf g = v_min(row_load(gate, i, n), v_set(7));
        vf u = v_max(v_min(row_load(up, i, n), v_set(7)), v_set(-7));
        row_store(y, i, n, v_mul(v_mul(g, v_sigmoid(v_mul(g, v_set(1.702f)))), v_add(u, v_set(1))));
    }
}

void ISA_FN(axpy)(float *y, const float *x, float s, int n)
{
    for (int i = 0; i < n; i += V_LANES)
        row_store(y, i, n, v_fma(row_load(x, i, n), v_set(s), row_load(y, i, n)));
}

/* The greatest of most and x[n]; NaN never wins. */
INLINE float max_row(const float *x, int n, float most)
{
    vf max = v_set(most);
    int i = 0;
    for (; i + V_LANES <= n; i += V_LANES)
        max = v_max(v_loadf(x + i), max); /* the second operand survives a NaN */
    most = v_reduce_max(max);
    for (; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

void ISA_FN(lse)(const float *x, int n, float *max, float *sum)
{
    float most = max_row(x, n, *max);
    if (most == -INFINITY)
        return; /* nothing seen yet: exp(x - max) would be NaN */
    vf s = v_zero(), m = v_set(most);
    for (int i = 0; i < n; i += V_LANES) {
        vf e = v_exp(v_sub(row_load(x, i, n), m));
        s = v_add(s, n - i >= V_LANES ? e : v_if_less(v_iota(), v_set((float)(n - i)), e, v_zero()));
    }
    float old = *max == -INFINITY ? 0 : *sum * expf(*max - most);
    *sum = old + v_reduce_add(s);
    *max = most;
}

int ISA_FN(argmax)(const float *x, int n)
{
    float most = max_row(x, n, -INFINITY);
    vf m = v_set(most);
    int i = 0;
    while (i + V_LANES <= n && v_equal(v_loadf(x + i), m) == 0)
        i += V_LANES;
    for (; i < n; i++)
        if (x[i] == most)
            return i;
    return 0; /* all NaN */
}
