"""Small networks of our own that judge a clip: where the face is, whether sound and lips agree, who speaks and how."""
