/* elementwise_ref.c - norms, rotation, activations and reductions over one row.
 *
 * Sums run in double, in order. The vector versions sum in f32 lanes; they are
 * compared with these by tolerance.
 */
#include <math.h>

#include "kernels/kernels.h"
#include "kernels/table.h"

void rmsnorm_ref(float *y, const float *x, const float *g, float eps, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    float s = (float)(1.0 / sqrt(sum / n + (double)eps));
    for (int i = 0; i < n; i++)
        y[i] = x[i] * s * g[i];
}

void layernorm_ref(float *y, const float *x, const float *g, const float *b, float eps, int n)
{
    double mean = 0, var = 0;
    for (int i = 0; i < n; i++)
        mean += (double)x[i];
    mean /= n;
    for (int i = 0; i < n; i++)
        var += ((double)x[i] - mean) * ((double)x[i] - mean);
    float s = (float)(1.0 / sqrt(var / n + (double)eps)), c = (float)mean;
    for (int i = 0; i < n; i++)
        y[i] = (x[i] - c) * s * g[i] + (b ? b[i] : 0);
}

static void rotate(float *a, float *b, const float *cs)
{
    float x = *a, y = *b;
    *a = x * cs[0] - y * cs[1];
    *b = x * cs[1] + y * cs[0];
}

void rope_halves_ref(float *x, const float *cs, int n_heads, int head_dim, int n_rot)
{
    for (int h = 0; h < n_heads; h++, x += head_dim)
        for (int i = 0; i < n_rot / 2; i++)
            rotate(&x[i], &x[i + n_rot / 2], &cs[2 * i]);
}

void rope_pairs_ref(float *x, const float *cs, int n_heads, int head_dim, int n_rot)
{
    for (int h = 0; h < n_heads; h++, x += head_dim)
        for (int i = 0; i < n_rot / 2; i++)
            rotate(&x[2 * i], &x[2 * i + 1], &cs[2 * i]);
}

static float silu(float x)
{
    return x / (1 + expf(-x));
}

static float gelu_tanh(float x)
{
    return 0.5f * x * (1 + tanhf(0.79788456080286535588f * (x + 0.044715f * x * x * x)));
}

static float gelu_erf(float x)
{
    return 0.5f * x * (1 + erff(x * 0.70710678118654752440f));
}

static float relu(float x)
{
    return x > 0 ? x : 0;
}

static float relu2(float x)
{
    return x > 0 ? x * x : 0;
}

/* One function and one gated function for each plain activation. */
#define ACTIVATION_PAIR(name)                                                \
    void act_##name##_ref(float *y, const float *x, int n)                   \
    {                                                                        \
        for (int i = 0; i < n; i++)                                          \
            y[i] = name(x[i]);                                               \
    }                                                                        \
    void glu_##name##_ref(float *y, const float *gate, const float *up, int n) \
    {                                                                        \
        for (int i = 0; i < n; i++)                                          \
            y[i] = name(gate[i]) * up[i];                                    \
    }
ACTIVATION_PAIR(silu)
ACTIVATION_PAIR(gelu_tanh)
ACTIVATION_PAIR(gelu_erf)
ACTIVATION_PAIR(relu)
ACTIVATION_PAIR(relu2)
#undef ACTIVATION_PAIR

/* gpt-oss: both sides clamped at 7, the gate only from above. */
void glu_swiglu_oai_ref(float *y, const float *gate, const float *up, int n)
{
    for (int i = 0; i < n; i++) {
        float g = fminf(gate[i], 7), u = fmaxf(fminf(up[i], 7), -7);
        y[i] = g / (1 + expf(-1.702f * g)) * (u + 1);
    }
}

void axpy_ref(float *y, const float *x, float s, int n)
{
    for (int i = 0; i < n; i++)
        y[i] += s * x[i];
}

void lse_ref(const float *x, int n, float *max, float *sum)
{
    float most = *max;
    for (int i = 0; i < n; i++)
        most = x[i] > most ? x[i] : most;
    if (most == -INFINITY)
        return; /* nothing seen yet: exp(x - max) would be NaN */
    double s = *max == -INFINITY ? 0 : (double)*sum * (double)expf(*max - most);
    for (int i = 0; i < n; i++)
        s += (double)expf(x[i] - most);
    *max = most;
    *sum = (float)s;
}

int argmax_ref(const float *x, int n)
{
    float most = -INFINITY;
    for (int i = 0; i < n; i++)
        most = x[i] > most ? x[i] : most;
    for (int i = 0; i < n; i++)
        if (x[i] == most)
            return i;
    return 0; /* all NaN */
}
