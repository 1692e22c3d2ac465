#version 330
in vec3 n; in vec3 p; in vec3 r; flat in int m; in vec4 a;
uniform vec3 eye; uniform vec3 skin, lips, hair, iris, frame, cloth, cloth_second, light, light_colour, ambient, rim;
uniform int cloth_kind;
uniform bool drawn;
uniform float ink;
uniform float brows, beard, fringe, parting, hairline, curls, seed;
layout(location = 0) out vec4 colour;
layout(location = 1) out float mask;

const int SKIN = 0, EYE = 1, TEETH = 2, TONGUE = 3, LASH = 5, HAIR = 6, GLASSES = 7;
const vec3 EYE_CENTRE = vec3(0.31, 7.285, 1.245);

float hash(vec2 x) { return fract(sin(dot(x, vec2(127.1, 311.7))) * 43758.5453); }
float noise(vec2 x) {
    vec2 i = floor(x), f = fract(x); f = f * f * (3.0 - 2.0 * f);
    return mix(mix(hash(i), hash(i + vec2(1, 0)), f.x), mix(hash(i + vec2(0, 1)), hash(i + vec2(1, 1)), f.x), f.y);
}
float line(float azimuth) {
    float d = degrees(azimuth);
    float h = mix(8.02, 8.0, smoothstep(0.0, 25.0, d));
    h = mix(h, 7.88, smoothstep(25.0, 45.0, d)); h = mix(h, 7.62, smoothstep(45.0, 62.0, d));
    h = mix(h, 7.30, smoothstep(62.0, 75.0, d)); h = mix(h, 7.42, smoothstep(75.0, 88.0, d));
    h = mix(h, 7.55, smoothstep(88.0, 100.0, d)); h = mix(h, 7.45, smoothstep(100.0, 112.0, d));
    h = mix(h, 6.95, smoothstep(112.0, 125.0, d)); return mix(h, 6.6, smoothstep(125.0, 160.0, d));
}
float strands(vec3 q) {
    float around = atan(q.x, q.z - 0.2);
    float fine = mix(noise(vec2(around * 38.0, q.y * 2.0)), noise(vec2(around * 14.0, q.y * 9.0 + q.z * 7.0)), curls);
    return 0.72 + 0.56 * fine;
}

const vec3 INK = vec3(0.10, 0.07, 0.08);

void main() {
    if (ink > 0.0) { colour = vec4(INK, 1.0); mask = 0.0; return; }
    vec3 view = normalize(eye - p), normal = normalize(n);
    if (m != SKIN && m != EYE && dot(normal, view) < 0.0) normal = -normal;
    vec3 c = skin; float gloss = 0.08, power = 18.0, face = 0.0, soft = 0.25, shade = 1.0;
    float x = abs(r.x);
    if (m == SKIN) {
        float inside = a.z;
        c *= 0.97 + 0.06 * noise(r.xy * 60.0 + seed);
        c = mix(c, skin * vec3(1.04, 0.86, 0.84), 0.5 * exp(-9.0 * (pow(x - 0.42, 2.0) + pow(r.y - 6.92, 2.0))) * step(0.8, r.z));
        c = mix(c, lips, smoothstep(0.25, 0.75, a.y) * 0.9);
        gloss = mix(gloss, 0.22, smoothstep(0.3, 0.8, a.y));
        // Brows: an arch over each eye that thins out to the temple.
        float along = (x - 0.32) / 0.21;
        float arch = 7.50 + 0.035 * (1.0 - along * along) + 0.028 * along;
        float thick = (0.022 + 0.012 * brows) * (1.0 - 0.4 * along) * step(abs(along), 1.0) * step(0.9, r.z);
        float brow = thick > 0.0 ? 1.0 - smoothstep(0.4, 1.2, abs(r.y - arch) / thick) : 0.0;
        c = mix(c, hair * 0.85, clamp(brow * brows * 0.85, 0.0, 0.95));
        // Lid crease and lash line.
        float lid = length((vec2(x, r.y) - EYE_CENTRE.xy) / vec2(0.19, 0.13));
        c *= 1.0 - 0.22 * (1.0 - smoothstep(0.9, 1.5, lid)) * step(1.0, r.z);
        float chin = smoothstep(0.0, 0.14, r.y - 6.14 - 0.38 * max(1.35 - r.z, 0.0)) * smoothstep(0.0, 0.16, 6.78 - r.y + 0.55 * smoothstep(0.45, 0.75, x));
        float jaw = chin * smoothstep(-0.1, 0.45, r.z) * (1.0 - smoothstep(0.3, 0.7, a.y));
        float whiskers = jaw * smoothstep(0.1, 0.16, length(vec2(r.x * 0.6, r.y - 6.57)) + 0.06 * beard);
        c = mix(c, hair * (0.8 + 0.4 * noise(r.xy * 90.0)), clamp(whiskers * beard * 0.8, 0.0, 0.85));
        vec3 away = r - vec3(0.0, 7.5, 0.2);
        float azimuth = abs(atan(away.x, away.z));
        float front = clamp(1.0 - azimuth / radians(60.0), 0.0, 1.0);
        float above = r.y - line(azimuth) + (hairline < 0.99 ? -0.8 : fringe * (1.0 + 1.3 * parting * away.x)) * 0.28 * front;
        float scalp = smoothstep(-0.01, 0.06, above) * step(6.3, r.y) * (1.0 - smoothstep(0.2, 0.5, a.w));
        c = mix(c, hair * strands(r), scalp * step(0.1, hairline) * 0.95);
        face = step(0.3, a.x) * (1.0 - step(0.5, scalp * step(0.1, hairline)));
        if (inside > 0.4) { c = vec3(0.20, 0.05, 0.05); gloss = 0.0; shade = 0.35; face = 1.0; }
        // Clothes below the neckline.
        float edge = 5.50 + 0.55 * smoothstep(0.35, 0.75, x) + 0.45 * smoothstep(0.4, -0.3, r.z);
        if (cloth_kind == 2) edge = 6.05 - 0.12 * smoothstep(0.0, 0.8, r.z);
        if (cloth_kind == 1) edge -= max(0.0, 0.75 - 1.7 * x) * smoothstep(0.0, 0.4, r.z);
        if (cloth_kind == 4) edge += 0.10 - max(0.0, 0.5 - 1.9 * x) * smoothstep(0.0, 0.4, r.z);
        if (r.y < edge) {
            c = cloth; gloss = 0.02; soft = 0.1; face = 0.0;
            if (cloth_kind == 3 && fract(r.y * 3.2) < 0.4) c = cloth_second;
            if (cloth_kind == 4 && r.y > edge - 0.22) c = cloth_second;
            c *= 0.92 + 0.12 * noise(vec2(atan(r.x, r.z) * 9.0, r.y * 4.0));
            shade = 0.75 + 0.25 * smoothstep(0.0, 0.10, edge - r.y);
        } else if (r.y < 6.35) shade = 0.82 + 0.18 * smoothstep(5.9, 6.35, r.y + 0.25 * r.z);
    } else if (m == EYE) {
        vec2 q = (vec2(x, r.y) - EYE_CENTRE.xy) / 0.135;
        float d = length(q);
        c = mix(vec3(0.96, 0.95, 0.93), vec3(0.84, 0.70, 0.66), smoothstep(0.75, 1.0, d));
        if (r.z > 1.2) {
            vec3 ring = iris * (0.75 + 0.5 * noise(vec2(atan(q.y, q.x) * 5.0, d * 4.0))) * (1.25 - 0.5 * smoothstep(0.3, 0.5, d));
            c = mix(ring, c, smoothstep(0.47, 0.54, d));
            c = mix(vec3(0.015), c, smoothstep(0.20, 0.25, d));
        }
        gloss = 0.7; power = 60.0; face = 1.0; soft = 0.5;
        shade = 0.75 + 0.30 * smoothstep(0.75, 0.1, q.y);
    } else if (m == TEETH) {
        c = vec3(0.93, 0.90, 0.84); face = 1.0; gloss = 0.15; soft = 0.6;
        shade = 0.35 + 0.6 * smoothstep(1.0, 1.45, r.z);
        if (abs(r.y - 6.65) > 0.13) c = vec3(0.62, 0.28, 0.28);
    } else if (m == TONGUE) {
        c = vec3(0.62, 0.24, 0.24); face = 1.0; gloss = 0.12; shade = 0.3 + 0.5 * smoothstep(0.9, 1.35, r.z);
    } else if (m == LASH) {
        c = vec3(0.03); face = 1.0; gloss = 0.0;
    } else if (m == HAIR) {
        c = hair * strands(r); gloss = 0.16; power = 12.0; soft = 0.35;
        shade = 0.8 + 0.2 * smoothstep(6.0, 8.0, r.y);
    } else {
        c = frame; gloss = 0.4; power = 30.0; face = 1.0;
    }
    float lit = max((dot(normal, light) + soft) / (1.0 + soft), 0.0);
    float fill = 0.5 + 0.5 * dot(normal, normalize(vec3(-light.x, 0.35, 0.5)));
    float sky = 0.82 + 0.18 * normal.y;
    float edge_light = pow(1.0 - max(dot(normal, view), 0.0), 3.0);
    vec3 warm = m == SKIN ? mix(vec3(1.06, 0.92, 0.88), vec3(1.0), smoothstep(0.0, 0.5, lit)) : vec3(1.0);
    vec3 sum = c * shade * (ambient * sky * (0.65 + 0.45 * fill) + light_colour * lit * warm);
    sum += gloss * shade * light_colour * pow(max(dot(normal, normalize(light + view)), 0.0), power);
    sum += rim * edge_light * (m == SKIN || m == HAIR ? 0.6 : 0.0) * shade;
    colour = vec4(pow(clamp(sum, 0.0, 1.0), vec3(0.86)), 1.0);
    mask = face;
    if (drawn) {
        // Three flat tones of a stronger colour, a line where the surface turns away.
        float tone = lit > 0.42 ? 1.0 : lit > 0.16 ? 0.84 : 0.68;
        vec3 flat_colour = clamp(mix(vec3(dot(c, vec3(0.3, 0.55, 0.15))), c, 1.35), 0.0, 1.0);
        flat_colour = pow(flat_colour, vec3(0.7)) * tone * (shade < 0.6 ? 0.7 : 1.0) * (0.9 + 0.2 * ambient);
        float turn = max(dot(normal, view), 0.0);
        if (m == SKIN && turn < 0.2 && a.z < 0.4 && a.y < 0.3) flat_colour = mix(INK, flat_colour, smoothstep(0.08, 0.2, turn));
        colour = vec4(clamp(flat_colour, 0.0, 1.0), 1.0);
    }
}
