# A Docker Space, or any machine: docker build -t langsteer . && docker run -p 7860:7860 langsteer
# Needs no GPU to build. With one: docker run --gpus all ...
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 user
USER user
ENV HOME=/home/user \
    PATH=/home/user/.local/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    GRADIO_ANALYTICS_ENABLED=False \
    HF_HOME=/home/user/.cache/huggingface
WORKDIR /home/user/app

# Apart from the code, so that a change of code does not install anew.
COPY --chown=user requirements.txt constraints.txt ./
RUN pip install --no-cache-dir --user -r requirements.txt -c constraints.txt

COPY --chown=user . .
EXPOSE 7860
CMD ["python", "app.py"]
