#version 330
in vec2 at;
uniform sampler2D background; uniform sampler2D layer;
uniform vec3 background_view; uniform vec3 layer_view;
layout(location = 0) out vec4 colour;
layout(location = 1) out float mask;
void main() {
    vec2 down = vec2(at.x, 1.0 - at.y);
    vec3 c = texture(background, background_view.xy + down * background_view.z).rgb;
    vec2 q = layer_view.xy + down * layer_view.z;
    vec4 over = texture(layer, clamp(q, 0.0, 1.0));
    if (q != clamp(q, 0.0, 1.0)) over.a = 0.0;
    colour = vec4(mix(c, over.rgb, over.a), 1.0);
    mask = 0.0;
}
