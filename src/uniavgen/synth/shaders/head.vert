#version 330
in vec3 position; in vec3 normal; in vec3 rest; in float material; in vec4 areas;
uniform vec3 eye; uniform vec3 lens; uniform vec2 shift; uniform float ink;
out vec3 n; out vec3 p; out vec3 r; flat out int m; out vec4 a;
void main() {
    n = normal; p = position; r = rest; a = areas; m = int(material + 0.5);
    // The ink of a drawing is the far side of a slightly thicker head.
    vec3 c = position + ink * normalize(normal) - eye;
    float z = -c.z;
    float depth = (lens.z + lens.y) / (lens.z - lens.y) * z - 2.0 * lens.z * lens.y / (lens.z - lens.y);
    gl_Position = vec4(c.xy * lens.x + shift * z, depth, z);
}
